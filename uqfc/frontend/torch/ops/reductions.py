"""Reductions over axes, softmax and its logarithm."""

from __future__ import annotations

from collections.abc import Callable
from math import inf, prod

from xdsl.dialects.builtin import f32, i1, i64

from uqfc.dialects import nn
from uqfc.errors import ModelError
from uqfc.frontend.builder import Builder
from uqfc.frontend.onnx_ops import reductions
from uqfc.frontend.torch.call import Call
from uqfc.frontend.torch.registry import converter
from uqfc.frontend.values import (
    UnsupportedUseError,
    Value,
    constant,
    dims,
    kind,
    rank,
    wrap_axes,
    wrap_axis,
)


def axes_of(call: Call, x: Value) -> list[int]:
    """The axes asked for, sorted; all where none are."""
    given = call.ints("dim")
    return sorted(wrap_axes(given, rank(x))) if given else list(range(rank(x)))


def kept(call: Call, b: Builder, result: Value, axes: list[int]) -> Value:
    """The result without the reduced axes, unless they are to be kept."""
    if call.flag("keepdim"):
        return result
    return b.reshape(result, [d for i, d in enumerate(dims(result)) if i not in axes])


def reduction(kind_: str) -> Callable[[Call, Builder], Value]:
    def convert(call: Call, b: Builder) -> Value:
        """In the type of the result: torch sums integers of any width as int64."""
        call.ignore("dtype")
        x = b.cast(call.value("self"), call.element)
        axes = axes_of(call, x)
        return kept(call, b, b.reduce(kind_, x, axes), axes)

    return convert


for _op, _kind in {
    "amax": "max",
    "amin": "min",
    "mean": "mean",
    "prod": "prod",
    "sum": "sum",
}.items():
    converter(_op)(reduction(_kind))


@converter("max", "min")
def extreme(call: Call, b: Builder) -> Value | list[Value]:
    """Of all elements, of two tensors, or over one axis; where it was found is a second result."""
    x = call.value("self")
    if call.given("other"):
        op = nn.MaximumOp if call.op == "max" else nn.MinimumOp
        return b.binary(op, b.cast(x, call.element), b.cast(call.value("other"), call.element))
    axes = axes_of(call, x)
    result = kept(call, b, b.reduce(call.op, x, axes), axes)
    return [result] if call.given("dim") else result


@converter("any", "all")
def logical(call: Call, b: Builder) -> Value:
    """Whether elements other than 0 are among those of the axes."""
    x = b.cast(b.cast(call.value("self"), i1), f32)
    axes = axes_of(call, x)
    found = kept(call, b, b.reduce("max" if call.op == "any" else "min", x, axes), axes)
    return b.cast(found, i1)


@converter("argmax", "argmin")
def position(call: Call, b: Builder) -> Value:
    """The first extreme element's index, int64."""
    x = call.value("self")
    if not call.given("dim"):
        x, axis = b.reshape(x, [prod(dims(x))]), 0
    else:
        axis = wrap_axis(call.integer("dim"), rank(x))
    found = reductions.extreme(b, x, call.op.removeprefix("arg"), axis, last=False)
    return kept(call, b, b.cast(found, i64), [axis])


@converter("var")
def variance(call: Call, b: Builder) -> Value:
    """``sum((x - mean)**2) / (n - correction)``."""
    x = call.real_tensor("self")
    axes = axes_of(call, x)
    count = prod(dims(x)[axis] for axis in axes)
    given = call.real("correction") if call.given("correction") else 1.0
    correction = given if not call.given("unbiased") else float(call.flag("unbiased"))
    if count <= correction:
        raise ModelError(f"the variance of {count} element(s) with correction {correction}")
    centred = b.sub(x, b.reduce("mean", x, axes))
    power = b.reduce("sum", b.mul(centred, centred), axes)
    return kept(call, b, b.div(power, constant(count - correction)), axes)


@converter("linalg_vector_norm")
def vector_norm(call: Call, b: Builder) -> Value:
    call.ignore("dtype")
    x, order = call.real_tensor("self"), call.real("ord")
    axes = axes_of(call, x)
    if order == 2:
        norm = b.unary("sqrt", b.reduce("sum", b.mul(x, x), axes))
    elif order in (1, inf):
        norm = b.reduce("sum" if order == 1 else "max", b.unary("abs", x), axes)
    else:
        raise UnsupportedUseError(f"argument 'ord' is {order}, supported: 1, 2, inf")
    return kept(call, b, norm, axes)


@converter("softmax", "_softmax")
def softmax(call: Call, b: Builder) -> Value:
    x, axis = softmax_operand(call, b)
    return b.emit(nn.SoftmaxOp(b.ssa(x), axis))


@converter("log_softmax", "_log_softmax")
def log_softmax(call: Call, b: Builder) -> Value:
    """``d - log(sum(exp(d)))`` with ``d = x - max(x)``."""
    x, axis = softmax_operand(call, b)
    centred = b.sub(x, b.reduce("max", x, [axis]))
    total = b.reduce("sum", b.unary("exp", centred), [axis])
    return b.sub(centred, b.unary("log", total))


def softmax_operand(call: Call, b: Builder) -> tuple[Value, int]:
    """The tensor as floats, and the axis."""
    call.ignore("dtype", "half_to_float")
    x = call.value("self")
    if kind(x) == i1:
        raise UnsupportedUseError("booleans are not supported")
    x = b.cast(x, f32)
    return x, wrap_axis(call.integer("dim"), rank(x))
