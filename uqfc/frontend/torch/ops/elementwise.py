"""Arithmetic of two tensors, or a tensor and a number, that broadcast."""

from __future__ import annotations

from xdsl.dialects.builtin import f32

from uqfc.dialects import nn
from uqfc.frontend.builder import Builder
from uqfc.frontend.torch.call import Call
from uqfc.frontend.torch.registry import converter
from uqfc.frontend.values import UnsupportedUseError, Value, scalar


def operands(call: Call, b: Builder) -> tuple[Value, Value]:
    """Both sides in the type of the result, as torch promotes them."""
    x, y = (call.operand(name, call.element) for name in ("self", "other"))
    return b.cast(x, call.element), b.cast(y, call.element)


def scaled(call: Call, b: Builder, x: Value) -> Value:
    """``alpha * x``."""
    alpha = call.get("alpha")
    return x if alpha in (None, 1) else b.mul(x, scalar(alpha, call.element))


@converter("add")
def add(call: Call, b: Builder) -> Value:
    x, y = operands(call, b)
    return b.add(x, scaled(call, b, y))


@converter("sub")
def sub(call: Call, b: Builder) -> Value:
    x, y = operands(call, b)
    return b.sub(x, scaled(call, b, y))


@converter("rsub")
def rsub(call: Call, b: Builder) -> Value:
    x, y = operands(call, b)
    return b.sub(y, scaled(call, b, x))


@converter("mul")
def mul(call: Call, b: Builder) -> Value:
    return b.mul(*operands(call, b))


@converter("div")
def div(call: Call, b: Builder) -> Value:
    """True division: of integers, too, the quotient is a float."""
    call.must_be("rounding_mode", None)
    if call.element != f32:
        raise UnsupportedUseError("only true division is supported")
    return b.binary(nn.DivOp, *operands(call, b))
