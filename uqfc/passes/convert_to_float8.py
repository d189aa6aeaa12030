"""``convert-to-float8``: layers between quantize points of 8-bit floats, and those points.

A layer whose input comes from ``quant.dcast`` of 8-bit floats (per tensor), and whose weights are
constants of 8-bit floats (per tensor or output channel), becomes ``qnn.float8_conv2d`` or
``qnn.float8_linear``: the scales leave the sum and are multiplied with it, ``multiplier =
float32(sx * sw)``. If its result goes into one ``quant.qcast`` to 8-bit floats, the layer gives
their codes, or else float32. Bias, residual and every other op stay float32 between
``qnn.float8_dequantize`` and ``qnn.float8_quantize``; ops that only move elements move codes.
Scales per channel of activations, which kernels do not have, are a division or multiplication of
their own.

This pass *defines* the network of 8-bit floats: from here to the device all bits are equal. Law
with respect to its input: the sums are the same in real arithmetic. A layer with only one operand
of 8-bit floats, or whose multipliers are not usable (``are_usable``), stays float32.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, TensorType, f32
from xdsl.dialects.func import FuncOp
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.rewriter import InsertPoint, Rewriter

from uqfc import float8
from uqfc.dialects import nn
from uqfc.dialects.qnn import (
    Float8Conv2dOp,
    Float8DequantizeOp,
    Float8LayerOp,
    Float8LinearOp,
    Float8QuantizeOp,
)
from uqfc.dialects.quant import (
    STORAGE_ELEMENTS,
    DcastOp,
    QcastOp,
    QuantParams,
    ScastOp,
    UniformType,
    uniform_of,
)
from uqfc.dialects.quant.decisions import Decision, Reason, decision_of, set_decision
from uqfc.dialects.tensors import Array, element_of, int_tuple, shape_of, tensor_type
from uqfc.numerics import multiplier
from uqfc.passes.eliminate_dead_code import EliminateDeadCodePass
from uqfc.passes.support.integer.moving import is_quantized, only_moves
from uqfc.passes.support.integer.values import are_usable
from uqfc.passes.support.quantizable import LAYERS
from uqfc.passes.support.rewriting import constant_of, rebuilt


def params_of(value: SSAValue) -> QuantParams | None:
    """The parameters of 8-bit floats; None of a value of any other type."""
    element = element_of(value)
    is_float8 = isinstance(element, UniformType) and element.data.float8 is not None
    return element.data if isinstance(element, UniformType) and is_float8 else None


def source_of(value: SSAValue) -> tuple[SSAValue, QuantParams] | None:
    """The 8-bit floats that a float32 value stands for, and their parameters."""
    owner = value.owner
    params = params_of(owner.x) if isinstance(owner, DcastOp) else None
    return (owner.x, params) if isinstance(owner, DcastOp) and params is not None else None


def codes_of(value: SSAValue, params: QuantParams) -> Array | None:
    """The codes of a constant of 8-bit floats."""
    owner, form = value.owner, params.float8
    if isinstance(owner, ScastOp):
        return constant_of(owner.x)
    if isinstance(owner, QcastOp) and form is not None:
        array = constant_of(owner.x)
        if array is not None:
            return float8.quantize(array, params.broadcast(array.shape)[0], form)
    return None


def quantized_result(layer: nn.Layer) -> QcastOp | None:
    """The cast to 8-bit floats that is the only reader of a layer."""
    users = [use.operation for use in layer.result.uses]
    if len(users) != 1 or not isinstance(users[0], QcastOp):
        return None
    params = params_of(users[0].result)
    return users[0] if params is not None and params.axis is None else None


def convert_layer(layer: nn.Layer) -> bool:
    """Replace a layer by one of 8-bit floats; False if it has to stay float32."""
    x, weight = source_of(layer.x), source_of(layer.weight)
    if x is None or weight is None or x[1].axis is not None or weight[1].axis not in (None, 0):
        return False
    codes = codes_of(*weight)
    if codes is None:
        return False
    scales = np.broadcast_to(np.asarray(weight[1].scales, np.float64), len(codes))
    factors = multiplier(np.float64(x[1].scales[0]), scales)
    if not are_usable(factors):
        return False
    element = STORAGE_ELEMENTS[x[1].storage]
    raw = ScastOp(x[0], element)
    constants = [
        nn.ConstantOp(codes.astype(np.uint8), STORAGE_ELEMENTS[weight[1].storage]),
        nn.ConstantOp(np.ascontiguousarray(factors)),
    ]
    cast = quantized_result(layer)
    made = build(layer, [raw, *constants, layer.bias, layer.residual], cast)
    nn.with_layer(made, layer.layer)
    set_decision(made, decision_of(layer) or given(weight[1]))
    if cast is None:
        Rewriter.replace_op(layer, [raw, *constants, made])
        return True
    back = ScastOp(made, element_of(cast.result))
    Rewriter.insert_op([raw, *constants, made, back], InsertPoint.before(cast))
    cast.result.replace_all_uses_with(back.result)
    Rewriter.erase_op(cast)
    Rewriter.erase_op(layer)
    return True


def build(
    layer: nn.Layer, operands: list[SSAValue | Operation | None], cast: QcastOp | None
) -> Float8LayerOp:
    element: Attribute = f32
    scale = None
    if cast is not None:
        params = uniform_of(cast.result)
        element, scale = STORAGE_ELEMENTS[params.storage], params.scales[0]
    if isinstance(layer, nn.LinearOp):
        return Float8LinearOp(operands, activation=layer.activation, scale=scale, element=element)
    return Float8Conv2dOp(
        operands,
        strides=int_tuple(layer.strides),
        padding=int_tuple(layer.padding),
        dilations=int_tuple(layer.dilations),
        groups=layer.groups.value.data,
        activation=layer.activation,
        scale=scale,
        element=element,
    )


def given(params: QuantParams) -> Decision:
    """The decision of a model that came quantized."""
    form = params.float8
    assert form is not None
    return Decision(form.dtype, form.dtype, Reason.REQUESTED)


def move_codes(cast: QcastOp) -> None:
    """``qcast(move(dcast(q)))`` with the parameters of ``q`` as ``move(q)``.

    Exact: ``decode(q) * scale / scale`` is within two float32 steps of a number of the format, so
    it is encoded as that number.
    """
    movers: list[Operation] = []
    value = cast.x
    while isinstance(owner := value.owner, Operation) and only_moves(owner):
        if isinstance(owner, nn.MaxPool2dOp):
            return
        movers.append(owner)
        value = owner.operands[0]
    source = source_of(value)
    if source is None or source[1] != params_of(cast.result) or source[1].axis is not None:
        return
    if not is_normal(source[1].scales[0]):
        return
    moved = source[0]
    for mover in reversed(movers):
        kind = tensor_type(shape_of(mover.results[0]), element_of(moved))
        again = rebuilt(mover, [moved, *mover.operands[1:]], kind)
        Rewriter.insert_op(again, InsertPoint.before(cast))
        moved = again.results[0]
    cast.result.replace_all_uses_with(moved)
    Rewriter.erase_op(cast)


def round_again(layer: nn.Layer) -> None:
    """``layer(move(dcast(q)))`` as ``layer(dcast(qcast(move(dcast(q)))))``: exact, as moved values
    are numbers of the format already. Files need not repeat the casts behind a movement."""
    value = layer.x
    while isinstance(owner := value.owner, Operation) and only_moves(owner):
        value = owner.operands[0]
    source, weight = source_of(value), source_of(layer.weight)
    if value is layer.x or source is None or weight is None or source[1].axis is not None:
        return
    if is_normal(source[1].scales[0]):
        cast = QcastOp(layer.x, source[1])
        back = DcastOp(cast)
        Rewriter.insert_op([cast, back], InsertPoint.before(layer))
        layer.operands[0] = back.result


def is_normal(scale: float) -> bool:
    """Whether no product of the scale and a number of a format is infinite or denormal."""
    return 2.0**-100 < scale < 2.0**100


class Storage:
    """Turns values of quantized types into tensors of 8-bit floats."""

    def __init__(self) -> None:
        self.stored: dict[SSAValue, SSAValue] = {}
        """Of each quantized value, the codes."""

    def lower(self, op: Operation) -> None:
        match op:
            case QcastOp() if (params := params_of(op.result)) is not None:
                self.insert(op, quantized(op, params))
            case ScastOp() if params_of(op.result) is not None:
                self.stored[op.result] = op.x
            case ScastOp() if op.x in self.stored:
                op.result.replace_all_uses_with(self.stored[op.x])
            case DcastOp() if op.x in self.stored:
                op.result.replace_all_uses_with(self.real(op).results[0])
            case _ if op.operands and op.operands[0] in self.stored and is_quantized(op.results[0]):
                source = self.stored[op.operands[0]]
                kind = tensor_type(shape_of(op.results[0]), element_of(source))
                self.insert(op, [rebuilt(op, [source, *op.operands[1:]], kind)])
            case _:
                pass

    def insert(self, op: Operation, added: list[Operation]) -> None:
        Rewriter.insert_op(added, InsertPoint.before(op))
        self.stored[op.results[0]] = added[-1].results[0]

    def real(self, op: DcastOp) -> Operation:
        """The float32 form of codes; of constants, a constant."""
        params, codes = uniform_of(op.x), self.stored[op.x]
        form, array = params.float8, constant_of(codes)
        scale = params.broadcast(shape_of(op.x))[0]
        assert form is not None
        added: list[Operation]
        if array is not None:
            added = [nn.ConstantOp(float8.dequantize(array, scale, form))]
        elif params.axis is None:
            added = [Float8DequantizeOp(codes, params.scales[0])]
        else:
            numbers, scales = Float8DequantizeOp(codes, 1.0), nn.ConstantOp(scale)
            added = [numbers, scales, nn.MulOp(numbers, scales)]
        Rewriter.insert_op(added, InsertPoint.before(op))
        return added[-1]


def quantized(op: QcastOp, params: QuantParams) -> list[Operation]:
    """The codes of a float32 value."""
    element = STORAGE_ELEMENTS[params.storage]
    codes = codes_of(op.result, params)
    if codes is not None:
        return [nn.ConstantOp(codes, element)]
    if params.axis is None:
        return [Float8QuantizeOp(op.x, params.scales[0], element)]
    scales = nn.ConstantOp(params.broadcast(shape_of(op.x))[0])
    ratio = nn.DivOp(op.x, scales)
    return [scales, ratio, Float8QuantizeOp(ratio, 1.0, element)]


def has_float8(function: FuncOp) -> bool:
    results = (r for op in function.body.block.ops for r in op.results)
    return any(isinstance(r.type, TensorType) and params_of(r) is not None for r in results)


def convert(function: FuncOp) -> None:
    block = function.body.block
    for layer in [op for op in block.ops if isinstance(op, LAYERS)]:
        round_again(layer)
    for cast in [op for op in block.ops if isinstance(op, QcastOp)]:
        if params_of(cast.result) is not None:
            move_codes(cast)
    for layer in [op for op in block.ops if isinstance(op, LAYERS)]:
        weight = source_of(layer.weight)
        if not convert_layer(layer) and weight is not None:
            set_decision(layer, decision_of(layer) or given(weight[1]))
    storage = Storage()
    for op in list(block.ops):
        storage.lower(op)


@dataclass(frozen=True)
class ConvertToFloat8Pass(ModulePass):
    """See the module's documentation."""

    name = "convert-to-float8"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        functions = [f for f in op.ops if isinstance(f, FuncOp) and has_float8(f)]
        for function in functions:
            convert(function)
        if functions:
            EliminateDeadCodePass().apply(ctx, op)
