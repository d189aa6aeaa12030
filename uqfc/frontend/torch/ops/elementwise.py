"""Arithmetic, comparison and choice of tensors, or a tensor and a number, that broadcast."""

from __future__ import annotations

from collections.abc import Callable

from xdsl.dialects.builtin import f32, i1, i64
from xdsl.ir import Attribute

from uqfc.dialects import nn
from uqfc.frontend.builder import COMPARE, Builder
from uqfc.frontend.torch.call import Call
from uqfc.frontend.torch.registry import converter
from uqfc.frontend.values import UnsupportedUseError, Value, constant, kind, scalar


def operands(
    call: Call, b: Builder, element: Attribute, names: tuple[str, str] = ("self", "other")
) -> tuple[Value, Value]:
    """Both sides in one type."""
    x, y = (call.operand(name, element) for name in names)
    return b.cast(x, element), b.cast(y, element)


def scaled(call: Call, b: Builder, x: Value) -> Value:
    """``alpha * x``."""
    alpha = call.get("alpha")
    return x if alpha in (None, 1) else b.mul(x, scalar(alpha, call.element))


def numeric(call: Call) -> Attribute:
    """The type of the result; UnsupportedUseError for logic that is written as arithmetic."""
    if call.element == i1:
        raise UnsupportedUseError("arithmetic of booleans is not supported")
    return call.element


@converter("add")
def add(call: Call, b: Builder) -> Value:
    x, y = operands(call, b, numeric(call))
    return b.add(x, scaled(call, b, y))


@converter("sub")
def sub(call: Call, b: Builder) -> Value:
    x, y = operands(call, b, numeric(call))
    return b.sub(x, scaled(call, b, y))


@converter("rsub")
def rsub(call: Call, b: Builder) -> Value:
    x, y = operands(call, b, numeric(call))
    return b.sub(y, scaled(call, b, x))


@converter("mul")
def mul(call: Call, b: Builder) -> Value:
    return b.mul(*operands(call, b, numeric(call)))


@converter("div")
def div(call: Call, b: Builder) -> Value:
    """True division: of integers, too, the quotient is a float."""
    call.must_be("rounding_mode", None)
    return b.div(*operands(call, b, f32))


@converter("maximum", "minimum")
def extreme(call: Call, b: Builder) -> Value:
    op = nn.MaximumOp if call.op == "maximum" else nn.MinimumOp
    return b.binary(op, *operands(call, b, call.element))


def promoted(call: Call, name: str) -> Attribute:
    """The type in which an argument is compared."""
    value = call.get(name)
    if isinstance(value, bool | int | float):
        return f32 if isinstance(value, float) else i1 if isinstance(value, bool) else i64
    return kind(call.value(name))


def comparison(predicate: str) -> Callable[[Call, Builder], Value]:
    def convert(call: Call, b: Builder) -> Value:
        kinds = {promoted(call, "self"), promoted(call, "other")}
        element = f32 if f32 in kinds else kinds.pop() if len(kinds) == 1 else i64
        return b.compare(predicate, *operands(call, b, element))

    return convert


for _predicate in COMPARE:
    converter(_predicate)(comparison(_predicate))


@converter("logical_not")
def logical_not(call: Call, b: Builder) -> Value:
    x = call.value("self")
    return b.compare("eq", x, b.zero_like(x))


@converter("logical_and", "logical_or", "bitwise_and", "bitwise_or")
def logic(call: Call, b: Builder) -> Value:
    """Of booleans; of the bits of integers there is none."""
    if call.element != i1:
        raise UnsupportedUseError("only booleans are supported")
    x, y = operands(call, b, i1)
    return b.select(x, y, x) if call.op.endswith("and") else b.select(x, x, y)


@converter("where")
def where(call: Call, b: Builder) -> Value:
    chosen = operands(call, b, call.element)
    return b.select(b.cast(call.value("condition"), i1), *chosen)


@converter("masked_fill")
def masked_fill(call: Call, b: Builder) -> Value:
    x, value = operands(call, b, call.element, ("self", "value"))
    return b.select(call.value("mask"), value, x)


@converter("addcmul")
def addcmul(call: Call, b: Builder) -> Value:
    """``self + value * tensor1 * tensor2``."""
    x, y, z = (call.real_tensor(name) for name in ("self", "tensor1", "tensor2"))
    factor = call.real("value")
    product = b.mul(y, z)
    return b.add(x, product if factor == 1.0 else b.mul(product, constant(factor)))
