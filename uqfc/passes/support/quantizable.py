"""Which ops can run on integers: shared by the passes that place quantize points and convert."""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects.builtin import f32
from xdsl.ir import Operation, SSAValue

from uqfc.dialects import nn
from uqfc.dialects.qnn import QConv2dOp
from uqfc.dialects.tensors import element_of, int_tuple, real, shape_of

LAYERS = (nn.Conv2dOp, nn.LinearOp)
"""Ops with weights: they are why a network is quantized at all."""

MOVEMENT = (
    nn.MaxPool2dOp,
    nn.ReshapeOp,
    nn.TransposeOp,
    nn.SliceOp,
    nn.PadOp,
    nn.BroadcastOp,
    nn.GatherOp,
)
"""Ops whose result has the quantization of their first operand: they move bits."""


def table_op(op: Operation) -> str:
    """What a target's table calls a layer, float or integer: an ``Op`` of its schema."""
    if not isinstance(op, nn.Conv2dOp | QConv2dOp):
        return "linear"
    return "depthwise" if op.is_depthwise else "conv2d"


def is_constant(value: SSAValue) -> bool:
    return isinstance(value.owner, nn.ConstantOp)


def activations(op: Operation) -> Sequence[SSAValue]:
    """The operands that are activations, as opposed to weights, bias and indices."""
    match op:
        case nn.Conv2dOp() | nn.LinearOp():
            return [op.x] if op.residual is None else [op.x, op.residual]
        case nn.GatherOp():
            return [op.x]
        case _:
            return list(op.operands)


def is_spatial_mean(op: Operation) -> bool:
    """A mean over height and width of an NHWC tensor."""
    return (
        isinstance(op, nn.ReduceOp)
        and op.kind.data == "mean"
        and len(shape_of(op.x)) == 4
        and int_tuple(op.axes) == (1, 2)
    )


def has_integer_form(op: Operation) -> bool:
    """Whether ``qnn`` has the op, given quantized activations."""
    if not op.results or element_of(op.results[0]) != f32:
        return False
    match op:
        case nn.Conv2dOp() | nn.LinearOp():
            return is_constant(op.weight) and (op.bias is None or is_constant(op.bias))
        case nn.AddOp() | nn.SubOp():
            return not any(is_constant(v) for v in op.operands) and is_clamp(op)
        case nn.MulOp():
            return not any(is_constant(v) for v in op.operands) and is_clamp(op)
        case nn.PadOp():
            return op.mode.data != "constant" or op.value == real(0.0)
        case nn.GatherOp():
            return is_constant(op.indices) and not is_constant(op.x)
        case nn.AvgPool2dOp() | nn.UnaryOp() | nn.ConcatOp():
            return True
        case nn.ReduceOp():
            return is_spatial_mean(op)
        case _:
            return isinstance(op, MOVEMENT)


def is_clamp(op: Operation) -> bool:
    """No fused activation, or one that is only a clamp."""
    activation = op.properties.get("activation")
    return activation is None or (
        isinstance(activation, nn.FnAttr) and activation.data.bounds is not None
    )
