"""Elementwise functions of one tensor."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from xdsl.dialects.builtin import f32

from uqfc.dialects import nn
from uqfc.frontend.builder import Builder
from uqfc.frontend.onnx_ops.activations import FLOAT_MAX, SELU_ALPHA, SELU_GAMMA, constant_clip
from uqfc.frontend.onnx_ops.matmul import scaled as multiplied
from uqfc.frontend.torch.call import Call
from uqfc.frontend.torch.registry import converter
from uqfc.frontend.values import (
    UnsupportedUseError,
    Value,
    constant,
    dims,
    kind,
    known,
    rank,
    scalar,
)

PLAIN = {
    "ceil": "ceil",
    "cos": "cos",
    "erf": "erf",
    "exp": "exp",
    "floor": "floor",
    "hardswish": "hard_swish",
    "log": "log",
    "mish": "mish",
    "reciprocal": "reciprocal",
    "relu": "relu",
    "sigmoid": "sigmoid",
    "sign": "sign",
    "silu": "silu",
    "sin": "sin",
    "sqrt": "sqrt",
    "tanh": "tanh",
}
"""ATen op of floats: elementary function without parameters."""

HARD_SIGMOID = (float(np.float32(1 / 6)), 0.5)
"""Alpha and beta; alpha as ONNX exports have it."""


def plain(name: str) -> Callable[[Call, Builder], Value]:
    def convert(call: Call, b: Builder) -> Value:
        return b.unary(name, call.real_tensor("self"))

    return convert


for _op, _name in PLAIN.items():
    converter(_op)(plain(_name))


@converter("neg")
def neg(call: Call, b: Builder) -> Value:
    x = call.value("self")
    return b.unary("neg", x) if kind(x) == f32 else b.sub(b.zero_like(x), x)


@converter("abs")
def absolute(call: Call, b: Builder) -> Value:
    x = call.value("self")
    if kind(x) == f32:
        return b.unary("abs", x)
    return b.binary(nn.MaximumOp, x, b.sub(b.zero_like(x), x))


@converter("round")
def round_(call: Call, b: Builder) -> Value:
    """Half to even, to whole numbers."""
    if call.get("decimals"):
        raise UnsupportedUseError("rounding to decimals is not supported")
    return b.unary("round", call.real_tensor("self"))


@converter("rsqrt")
def rsqrt(call: Call, b: Builder) -> Value:
    return b.unary("reciprocal", b.unary("sqrt", call.real_tensor("self")))


@converter("square")
def square(call: Call, b: Builder) -> Value:
    x = call.value("self")
    return b.mul(x, x)


@converter("hardsigmoid")
def hardsigmoid(call: Call, b: Builder) -> Value:
    return b.unary("hard_sigmoid", call.real_tensor("self"), *HARD_SIGMOID)


@converter("leaky_relu")
def leaky_relu(call: Call, b: Builder) -> Value:
    return b.unary("leaky_relu", call.real_tensor("self"), call.real("negative_slope"))


@converter("prelu")
def prelu(call: Call, b: Builder) -> Value:
    """One slope for all makes a leaky ReLU; else there is one per channel."""
    x, slope = call.real_tensor("self"), call.real_tensor("weight")
    array = known(slope)
    if array is not None and array.size == 1:
        return b.unary("leaky_relu", x, float(array.reshape(-1)[0]))
    if rank(slope) == 1 and rank(x) > 1:
        slope = b.reshape(slope, (*dims(slope), *[1] * (rank(x) - 2)))
    return b.select(b.compare("lt", x, constant(0.0)), b.mul(x, slope), x)


@converter("elu")
def elu(call: Call, b: Builder) -> Value:
    """The result times ``scale`` of the tensor times ``input_scale``; SELU is written so, too."""
    x, alpha = call.real_tensor("self"), call.real("alpha")
    scale, input_scale = call.real("scale"), call.real("input_scale")
    if near(alpha, SELU_ALPHA) and near(scale, SELU_GAMMA) and input_scale == 1.0:
        return b.unary("selu", x)
    result = b.unary("elu", multiplied(b, x, input_scale), alpha)
    return multiplied(b, result, scale)


def near(value: float, constant_: float) -> bool:
    return abs(value - constant_) < 1e-6


@converter("expm1")
def expm1(call: Call, b: Builder) -> Value:
    """``elu(x)`` below 0, ``-elu(-x) * exp(x)`` above: exact to some ulps near 0, too."""
    x = call.real_tensor("self")
    negative = b.unary("elu", b.unary("neg", x), 1.0)
    above = b.unary("neg", b.mul(negative, b.unary("exp", x)))
    return b.select(b.compare("lt", x, constant(0.0)), b.unary("elu", x, 1.0), above)


@converter("log1p")
def log1p(call: Call, b: Builder) -> Value:
    """``log(u) * x / (u - 1)`` with ``u = 1 + x``, which corrects the rounding of ``u`` (HP-15C
    Advanced Functions Handbook, appendix "Accuracy"); where there is none to correct, less."""
    x = call.real_tensor("self")
    one, large = constant(1.0), constant(2.0**24)
    u = b.add(x, one)
    logarithm = b.unary("log", u)
    corrected = b.mul(logarithm, b.div(x, b.sub(u, one)))
    result = b.select(b.compare("eq", u, one), x, corrected)
    return b.select(b.compare("gt", x, large), logarithm, result)


@converter("celu")
def celu(call: Call, b: Builder) -> Value:
    return b.unary("celu", call.real_tensor("self"), call.real("alpha"))


@converter("selu")
def selu(call: Call, b: Builder) -> Value:
    return b.unary("selu", call.real_tensor("self"))


@converter("gelu")
def gelu(call: Call, b: Builder) -> Value:
    tanh = call.get("approximate") == "tanh"
    return b.unary("gelu_tanh" if tanh else "gelu", call.real_tensor("self"))


@converter("softplus")
def softplus(call: Call, b: Builder) -> Value:
    """``log(1 + exp(beta * x)) / beta``; ``threshold`` is where torch calls that ``x``."""
    call.ignore("threshold")
    x, beta = call.real_tensor("self"), call.real("beta")
    result = b.unary("softplus", multiplied(b, x, beta))
    return result if beta == 1.0 else b.div(result, constant(beta))


@converter("log_sigmoid")
def log_sigmoid(call: Call, b: Builder) -> Value:
    """``-softplus(-x)``."""
    return b.unary("neg", b.unary("softplus", b.unary("neg", call.real_tensor("self"))))


@converter("relu6")
def relu6(call: Call, b: Builder) -> Value:
    return b.unary("clip", call.real_tensor("self"), 0.0, 6.0)


@converter("hardtanh")
def hardtanh(call: Call, b: Builder) -> Value:
    return b.unary("clip", call.real_tensor("self"), call.real("min_val"), call.real("max_val"))


@converter("clamp", "clamp_min", "clamp_max")
def clamp(call: Call, b: Builder) -> Value:
    """``min(max(x, low), high)``; a bound may be missing, or differ between elements."""
    x = b.cast(call.value("self"), call.element)
    bounds = [call.operand(n, call.element) if call.given(n) else None for n in ("min", "max")]
    low, high = bounds
    arrays = [None if v is None else known(v) for v in bounds]
    single = all(
        v is None or (a is not None and a.size == 1) for v, a in zip(bounds, arrays, strict=True)
    )
    if single and kind(x) == f32:
        numbers = [None if a is None else float(a.reshape(-1)[0]) for a in arrays]
        least = -FLOAT_MAX if numbers[0] is None else max(numbers[0], -FLOAT_MAX)
        most = FLOAT_MAX if numbers[1] is None else min(numbers[1], FLOAT_MAX)
        return constant_clip(b, x, least, most)
    if low is not None:
        x = b.binary(nn.MaximumOp, x, b.cast(low, call.element))
    return x if high is None else b.binary(nn.MinimumOp, x, b.cast(high, call.element))


@converter("threshold")
def threshold(call: Call, b: Builder) -> Value:
    """``x`` where it is above the threshold, else the value."""
    x = call.real_tensor("self")
    above = b.compare("gt", x, constant(call.real("threshold")))
    return b.select(above, x, constant(call.real("value")))


@converter("pow")
def power(call: Call, b: Builder) -> Value:
    """Squares and square roots are single exact operations; integers can only be squared."""
    exponent = call.get("exponent")
    if isinstance(exponent, int | float) and exponent == 2:
        x = call.value("self")
        return b.mul(x, x)
    if call.element != f32:
        raise UnsupportedUseError("only squares of integers are supported")
    x = b.cast(call.operand("self", f32), f32)
    if isinstance(exponent, int | float) and exponent == 0.5:
        return b.unary("sqrt", x)
    return b.binary(nn.PowOp, x, b.cast(call.operand("exponent", f32), f32))


@converter("full_like")
def full_like(call: Call, b: Builder) -> Value:
    """A constant of the tensor's shape."""
    call.ignore("dtype", "layout", "device", "pin_memory", "memory_format")
    return b.broadcast(scalar(call.real("fill_value"), call.element), dims(call.value("self")))
