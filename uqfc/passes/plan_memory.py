"""``plan-memory``: one static arena; every buffer gets an offset, every launch writes in place.

Buffers live from the launch that writes them to the last that reads them. The largest are placed
first, each at the lowest offset that is free for its whole life (greedy by size: Pisarchyk and Lee,
"Efficient memory management for deep neural net inference", 2020). Every buffer is followed by
``SLACK`` readable bytes, because kernels may load whole vectors.

The function then takes memrefs, inputs first, and returns nothing; ``nn.reshape`` becomes a second
view of the same bytes.

Law: exact; two buffers overlap only if their lives do not.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import FunctionType, MemRefType, ModuleOp
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Attribute, SSAValue
from xdsl.passes import ModulePass
from xdsl.rewriter import InsertPoint, Rewriter

from uqfc.dialects import nn
from uqfc.dialects.qkernel import ALIGNMENT, ArenaOp, LaunchOp, ViewOp, memref_bytes
from uqfc.dialects.tensors import element_of, integer, shape_of
from uqfc.passes.form_kernels import root

SLACK = 64
"""Readable bytes after every buffer."""


@dataclass(frozen=True)
class Buffer:
    """``size`` bytes that are alive from step ``first`` to step ``last``, both included."""

    size: int
    first: int
    last: int

    def overlaps(self, other: Buffer) -> bool:
        return self.first <= other.last and other.first <= self.last


def place(buffers: Iterable[Buffer]) -> tuple[list[int], int]:
    """An offset for each buffer (multiples of ``ALIGNMENT``) and the size of the arena."""
    listed = list(buffers)
    order = sorted(range(len(listed)), key=lambda i: (-listed[i].size, listed[i].first, i))
    offsets = [0] * len(listed)
    placed: list[int] = []
    for index in order:
        buffer = listed[index]
        taken = sorted(
            (offsets[j], offsets[j] + listed[j].size) for j in placed if buffer.overlaps(listed[j])
        )
        offset = 0
        for start, end in taken:
            if offset + buffer.size <= start:
                break
            offset = max(offset, end)
        offsets[index] = offset
        placed.append(index)
    total = max((o + b.size for o, b in zip(offsets, listed, strict=True)), default=0)
    return offsets, total


def padded(size: int) -> int:
    """Bytes that a buffer of ``size`` occupies: slack, then up to the alignment."""
    return -(-(size + SLACK) // ALIGNMENT) * ALIGNMENT


def last_reads(launches: list[LaunchOp]) -> dict[SSAValue, int]:
    """The last step that reads each value (by its root)."""
    reads: dict[SSAValue, int] = {}
    for step, launch in enumerate(launches):
        for value in launch.inputs:
            reads[root(value)] = step
    return reads


def memref(value: SSAValue) -> MemRefType[Attribute]:
    return MemRefType(element_of(value), list(shape_of(value)))


class Plan:
    """The plan of one function and its application."""

    def __init__(self, function: FuncOp) -> None:
        self.function = function
        self.block = function.body.block
        self.launches = [op for op in self.block.ops if isinstance(op, LaunchOp)]
        last = self.block.last_op
        assert isinstance(last, ReturnOp)
        self.returns = last
        self.results = list(last.operands)

    def run(self) -> None:
        reads = last_reads(self.launches)
        buffers: list[Buffer] = []
        owners: list[SSAValue | LaunchOp] = []
        for step, launch in enumerate(self.launches):
            value = launch.outputs[0]
            if value not in self.results:
                size = padded(memref_bytes(value.type))
                buffers.append(Buffer(size, step, reads.get(value, step)))
                owners.append(value)
            if launch.scratch_bytes is not None and launch.scratch_bytes.value.data:
                size = padded(launch.scratch_bytes.value.data)
                buffers.append(Buffer(size, step, step))
                owners.append(launch)
        offsets, total = place(buffers)
        self.apply(dict(zip(owners, offsets, strict=True)), total)

    def apply(self, offsets: dict[SSAValue | LaunchOp, int], total: int) -> None:
        arena = ArenaOp(total)
        Rewriter.insert_op(arena, InsertPoint.at_start(self.block))
        places: dict[SSAValue, SSAValue] = {}
        for argument in list(self.block.args):
            Rewriter.replace_value_with_new_type(argument, memref(argument))
        for value in self.results:
            count = len(self.block.args)
            places[value] = self.block.insert_arg(memref(value), count)
        for launch in self.launches:
            value = launch.outputs[0]
            if value not in places:
                view = ViewOp(arena, offsets[value], shape_of(value), element_of(value))
                Rewriter.insert_op(view, InsertPoint.before(launch))
                places[value] = view.result
            if launch in offsets:
                launch.properties["scratch"] = integer(offsets[launch])
        self.alias_reshapes(arena, offsets, places)
        for launch in self.launches:
            write_into(launch, places)
        Rewriter.replace_op(self.returns, ReturnOp())
        for op in reversed(list(self.block.ops)):
            if isinstance(op, nn.ReshapeOp) or (isinstance(op, LaunchOp) and op.outputs):
                Rewriter.erase_op(op)
        self.function.properties["function_type"] = FunctionType.from_lists(
            [a.type for a in self.block.args], []
        )

    def alias_reshapes(
        self,
        arena: ArenaOp,
        offsets: dict[SSAValue | LaunchOp, int],
        places: dict[SSAValue, SSAValue],
    ) -> None:
        """A reshape becomes another view of the bytes of its operand, which are in the arena."""
        for op in [o for o in self.block.ops if isinstance(o, nn.ReshapeOp)]:
            offset = offsets[root(op.x)]
            view = ViewOp(arena, offset, shape_of(op.result), element_of(op.result))
            Rewriter.insert_op(view, InsertPoint.before(op))
            places[op.result] = view.result


def write_into(launch: LaunchOp, places: dict[SSAValue, SSAValue]) -> None:
    """Insert before the launch the same one that reads and writes memory; it takes the body."""
    inputs = [places.get(v, v) for v in launch.inputs]
    body = launch.detach_region(0)
    placed = LaunchOp(inputs, body, into=places[launch.outputs[0]])
    placed.attributes.update(launch.attributes)
    placed.copy_selection(launch)
    Rewriter.insert_op(placed, InsertPoint.before(launch))


@dataclass(frozen=True)
class PlanMemoryPass(ModulePass):
    """See the module's documentation."""

    name = "plan-memory"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for function in op.ops:
            if isinstance(function, FuncOp):
                Plan(function).run()
