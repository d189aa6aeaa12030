"""``form-kernels``: outlines every op, or chain of elementwise ops, into a ``qkernel.launch``.

Elementwise ops of one shape whose only reader is another such op run in one kernel, and so does a
transpose of an operand that only that kernel reads. A convolution quantizes the rows of a channel-
first image that only it reads. ``nn.reshape`` moves nothing and stays outside.

What the memory plan needs is made explicit, too: a result of the network that others read, or that
no kernel makes, is copied by a kernel of its own; so is an input that a kernel would read past its
end (``uqf.h`` promises callers that inputs are read within their bounds).

Law: exact. The same ops run in an order that the data allows.
"""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Block, Operation, Region, SSAValue
from xdsl.passes import ModulePass
from xdsl.rewriter import InsertPoint, Rewriter

from uqfc.dialects import nn, qnn
from uqfc.dialects.layouts import root
from uqfc.dialects.qkernel import LaunchOp, YieldOp
from uqfc.dialects.tensors import int_tuple, shape_of, type_of
from uqfc.dialects.traits import ReadsWithinBounds

ELEMENTWISE = (
    nn.UnaryOp,
    nn.BinaryOp,
    nn.SelectOp,
    nn.CastOp,
    qnn.QuantizeOp,
    qnn.DequantizeOp,
    qnn.Float8QuantizeOp,
    qnn.Float8DequantizeOp,
    qnn.QAddOp,
    qnn.QMulOp,
)
WITHIN_BOUNDS = (*ELEMENTWISE, nn.ReshapeOp, nn.TransposeOp, nn.SliceOp, nn.ConcatOp, nn.GatherOp)
"""Ops whose kernels read no byte past the end of their operands, as are those of that trait."""
MOST_IMAGE_CHANNELS = 4
"""More are quantized by a kernel of their own."""
MOST_INPUTS = 12
"""Operands of a fused kernel: each takes registers."""


def external_inputs(group: list[Operation]) -> list[SSAValue]:
    """What the group reads from outside, each once, in order."""
    inside = set(group)
    found: dict[SSAValue, None] = {}
    for op in group:
        for value in op.operands:
            if value.owner not in inside:
                found[value] = None
    return list(found)


def has_one_reader(op: Operation) -> bool:
    return op.results[0].uses.get_length() == 1


def joins(producer: Operation, consumer: Operation) -> bool:
    """Whether ``producer`` can run inside the elementwise kernel of ``consumer``."""
    if not has_one_reader(producer) or shape_of(producer.results[0]) != shape_of(
        consumer.results[0]
    ):
        return False
    return isinstance(producer, (*ELEMENTWISE, nn.TransposeOp))


def image_of(op: Operation) -> list[Operation]:
    """Transpose and quantization of a channel-first image that only ``op`` reads."""
    if not isinstance(op, qnn.QConv2dOp) or op.is_depthwise or op.groups.value.data != 1:
        return []
    quantize = op.x.owner
    if not isinstance(quantize, qnn.QuantizeOp) or not has_one_reader(quantize):
        return []
    transpose = quantize.x.owner
    if not isinstance(transpose, nn.TransposeOp) or not has_one_reader(transpose):
        return []
    to_channels_last = int_tuple(transpose.permutation) == (0, 2, 3, 1)
    few = 2 <= shape_of(quantize.result)[-1] <= MOST_IMAGE_CHANNELS
    pointwise = shape_of(op.weight)[1:3] == (1, 1)
    same_zero_point = quantize.zero_point.value.data == op.x_zero_point.value.data
    if not (to_channels_last and few and same_zero_point) or pointwise:
        return []
    return [transpose, quantize]


def group_ops(block: Block) -> list[list[Operation]]:
    """The ops of each kernel in order; the last one gives the result."""
    groups: dict[Operation, list[Operation]] = {}
    order = {op: i for i, op in enumerate(block.ops)}
    for op in block.ops:
        if isinstance(op, nn.ConstantOp | ReturnOp) or shares_memory(op):
            continue
        image = image_of(op)
        for producer in image:
            groups.pop(producer, None)
        group = [*image, op]
        if isinstance(op, ELEMENTWISE):
            for value in dict.fromkeys(op.operands):
                producer = value.owner
                if not isinstance(producer, Operation) or producer not in groups:
                    continue
                merged = sorted({*groups[producer], *group}, key=order.__getitem__)
                if joins(producer, op) and len(external_inputs(merged)) <= MOST_INPUTS:
                    group = merged
                    del groups[producer]
        groups[op] = group
    return sorted(groups.values(), key=lambda g: order[g[-1]])


def outline(group: list[Operation]) -> LaunchOp:
    """Replace the group by a launch at the place of its last op."""
    inputs = external_inputs(group)
    block = Block(arg_types=[type_of(v) for v in inputs])
    mapping: dict[SSAValue, SSAValue] = dict(zip(inputs, block.args, strict=True))
    for op in group:
        block.add_op(op.clone(value_mapper=mapping))
    last = group[-1]
    block.add_op(YieldOp(mapping[last.results[0]]))
    launch = LaunchOp(inputs, Region(block))
    launch.attributes.update({k: v for k, v in last.attributes.items() if k in ("layer",)})
    Rewriter.replace_op(last, launch)
    for op in reversed(group[:-1]):
        Rewriter.erase_op(op)
    return launch


def copy_of(value: SSAValue) -> LaunchOp:
    """A kernel that copies ``value``."""
    block = Block(arg_types=[type_of(value)])
    copy = nn.ReshapeOp(block.args[0], shape_of(value))
    block.add_ops([copy, YieldOp(copy)])
    return LaunchOp([value], Region(block))


def shares_memory(op: Operation) -> bool:
    """A reshape of what some kernel makes: another view of the same bytes of the arena."""
    return isinstance(op, nn.ReshapeOp) and not isinstance(root(op.x).owner, Block | nn.ConstantOp)


def copy_results(block: Block) -> None:
    """Let every result of the network be the only use of a kernel's result."""
    last = block.last_op
    assert isinstance(last, ReturnOp)
    for index, value in enumerate(last.operands):
        origin = root(value)
        made_here = isinstance(origin.owner, LaunchOp)
        if made_here and value is origin and value.uses.get_length() == 1:
            continue
        copy = copy_of(value)
        Rewriter.insert_op(copy, InsertPoint.before(last))
        last.operands[index] = copy.outputs[0]


def within_bounds(op: Operation) -> bool:
    return isinstance(op, (*WITHIN_BOUNDS, nn.ConstantOp)) or op.has_trait(ReadsWithinBounds)


def reads_past_end(launch: LaunchOp, index: int) -> bool:
    """Whether the kernel may read past the end of that operand: some op that uses it may."""
    uses = launch.block.args[index].uses
    return not all(within_bounds(use.operation) for use in uses)


def copy_inputs(block: Block) -> None:
    """Copy inputs that a kernel would read past their end into the arena."""
    for argument in block.args:
        readers = [
            (op, index)
            for op in block.ops
            if isinstance(op, LaunchOp)
            for index, value in enumerate(op.operands)
            if value is argument and reads_past_end(op, index)
        ]
        if not readers:
            continue
        for op, index in readers:
            copy = copy_of(op.operands[index])
            Rewriter.insert_op(copy, InsertPoint.before(op))
            op.operands[index] = copy.outputs[0]


@dataclass(frozen=True)
class FormKernelsPass(ModulePass):
    """See the module's documentation."""

    name = "form-kernels"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for function in op.ops:
            if not isinstance(function, FuncOp):
                continue
            block = function.body.block
            for group in group_ops(block):
                outline(group)
            copy_results(block)
            copy_inputs(block)
            for constant in [o for o in block.ops if isinstance(o, nn.ConstantOp)]:
                if constant.result.first_use is None:
                    Rewriter.erase_op(constant)
