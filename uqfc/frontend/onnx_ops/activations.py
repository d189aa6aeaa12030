"""Elementwise functions of one tensor."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from xdsl.dialects.builtin import f32

from uqfc.dialects import nn
from uqfc.errors import ModelError
from uqfc.frontend.builder import Builder
from uqfc.frontend.node import Node, as_float
from uqfc.frontend.onnx_ops.registry import MICROSOFT, converter
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
    "Ceil": "ceil",
    "Cos": "cos",
    "Erf": "erf",
    "Exp": "exp",
    "Floor": "floor",
    "HardSwish": "hard_swish",
    "Log": "log",
    "Mish": "mish",
    "Reciprocal": "reciprocal",
    "Relu": "relu",
    "Round": "round",
    "Sigmoid": "sigmoid",
    "Sin": "sin",
    "Softplus": "softplus",
    "Softsign": "softsign",
    "Sqrt": "sqrt",
    "Tanh": "tanh",
}
"""ONNX op: elementary function without parameters."""

ONE_ALPHA = {
    "Celu": ("celu", 1.0),
    "Elu": ("elu", 1.0),
    "LeakyRelu": ("leaky_relu", 0.01),
    "ThresholdedRelu": ("thresholded_relu", 1.0),
}
"""ONNX op: function with the parameter alpha, and its default."""

SELU_ALPHA = 1.67326319217681884765625
SELU_GAMMA = 1.05070102214813232421875
FLOAT_MAX = float(np.finfo(np.float32).max)


def plain(name: str) -> Callable[[Node, Builder], Value]:
    def convert(node: Node, b: Builder) -> Value:
        return b.unary(name, node.float_in(0))

    return convert


def one_alpha(name: str, default: float) -> Callable[[Node, Builder], Value]:
    def convert(node: Node, b: Builder) -> Value:
        return b.unary(name, node.float_in(0), node.real("alpha", default))

    return convert


for _op, _name in PLAIN.items():
    converter(_op)(plain(_name))
for _op, (_name, _default) in ONE_ALPHA.items():
    converter(_op)(one_alpha(_name, _default))


@converter("Relu")
def relu(node: Node, b: Builder) -> Value:
    x = node.input(0)
    return b.unary("relu", x) if kind(x) == f32 else b.binary(nn.MaximumOp, x, b.zero_like(x))


@converter("Neg")
def neg(node: Node, b: Builder) -> Value:
    x = node.input(0)
    return b.unary("neg", x) if kind(x) == f32 else b.sub(b.zero_like(x), x)


@converter("Abs")
def absolute(node: Node, b: Builder) -> Value:
    x = node.input(0)
    if kind(x) == f32:
        return b.unary("abs", x)
    return b.binary(nn.MaximumOp, x, b.sub(b.zero_like(x), x))


@converter("Sign")
def sign(node: Node, b: Builder) -> Value:
    x = node.input(0)
    if kind(x) == f32:
        return b.unary("sign", x)
    one = scalar(1, kind(x))
    above = b.binary(nn.MinimumOp, x, one)
    return b.binary(nn.MaximumOp, above, b.sub(b.zero_like(x), one))


@converter("HardSigmoid")
def hard_sigmoid(node: Node, b: Builder) -> Value:
    alpha, beta = node.real("alpha", 0.2), node.real("beta", 0.5)
    return b.unary("hard_sigmoid", node.float_in(0), alpha, beta)


@converter("Selu")
def selu(node: Node, b: Builder) -> Value:
    """``gamma * elu(x, alpha)``; with the usual parameters one function."""
    alpha, gamma = node.real("alpha", SELU_ALPHA), node.real("gamma", SELU_GAMMA)
    x = node.float_in(0)
    if abs(alpha - SELU_ALPHA) < 1e-6 and abs(gamma - SELU_GAMMA) < 1e-6:
        return b.unary("selu", x)
    return b.mul(b.unary("elu", x, alpha), constant(gamma))


@converter("Gelu")
@converter("Gelu", domain=MICROSOFT)
def gelu(node: Node, b: Builder) -> Value:
    tanh = node.choice("approximate", "none", ("none", "tanh")) == "tanh"
    return b.unary("gelu_tanh" if tanh else "gelu", node.float_in(0))


@converter("BiasGelu", domain=MICROSOFT)
def bias_gelu(node: Node, b: Builder) -> Value:
    return b.unary("gelu", b.add(*node.floats_in(0, 1)))


@converter("FastGelu", domain=MICROSOFT)
def fast_gelu(node: Node, b: Builder) -> Value:
    x = b.add(*node.floats_in(0, 1)) if node.has(1) else node.float_in(0)
    return b.unary("gelu_tanh", x)


@converter("QuickGelu", domain=MICROSOFT)
def quick_gelu(node: Node, b: Builder) -> Value:
    return swish_of(b, node.float_in(0), node.real("alpha", 1.702))


@converter("Swish")
def swish(node: Node, b: Builder) -> Value:
    return swish_of(b, node.float_in(0), node.real("alpha", 1.0))


def swish_of(b: Builder, x: Value, alpha: float) -> Value:
    """``x * sigmoid(alpha * x)``."""
    if alpha == 1.0:
        return b.unary("silu", x)
    return b.mul(x, b.unary("sigmoid", b.mul(x, constant(alpha))))


@converter("PRelu")
def prelu(node: Node, b: Builder) -> Value:
    """A slope that is the same everywhere makes a LeakyRelu."""
    x, slope = node.floats_in(0, 1)
    array = known(slope)
    if array is not None and array.size and (array == array.reshape(-1)[0]).all():
        return b.unary("leaky_relu", x, float(array.reshape(-1)[0]))
    if rank(slope) > rank(x):
        raise ModelError(f"slope of rank {rank(slope)} does not broadcast to {list(dims(x))}")
    return b.select(b.compare("lt", x, constant(0.0)), b.mul(x, slope), x)


@converter("Clip")
def clip(node: Node, b: Builder) -> Value:
    """``min(max(x, low), high)``; a bound at the end of float32 is no bound."""
    x = node.input(0)
    if node.version < 11:
        low: Value | None = constant(node.real("min", -FLOAT_MAX))
        high: Value | None = constant(node.real("max", FLOAT_MAX))
    else:
        low, high = node.optional(1), node.optional(2)
    bounds = [bound(low, -FLOAT_MAX), bound(high, FLOAT_MAX)]
    if kind(x) == f32 and all(v is not None for v in bounds):
        return constant_clip(b, x, *[v for v in bounds if v is not None])
    if low is not None:
        x = b.binary(nn.MaximumOp, x, low)
    return x if high is None else b.binary(nn.MinimumOp, x, high)


def bound(value: Value | None, default: float) -> float | None:
    """The bound as a number, clamped to what is finite; None if it is known only at run time."""
    if value is None:
        return default
    array = known(value)
    return None if array is None else min(max(as_float(array), -FLOAT_MAX), FLOAT_MAX)


def constant_clip(b: Builder, x: Value, low: float, high: float) -> Value:
    """``nn.unary`` with clip or relu; one-sided otherwise, so that infinities are kept."""
    if low > -FLOAT_MAX and high < FLOAT_MAX:
        return b.unary("clip", x, low, high)
    if low == 0.0 and high == FLOAT_MAX:
        return b.unary("relu", x)
    if low > -FLOAT_MAX:
        return b.binary(nn.MaximumOp, x, constant(low))
    return x if high == FLOAT_MAX else b.binary(nn.MinimumOp, x, constant(high))


@converter("Shrink")
def shrink(node: Node, b: Builder) -> Value:
    """``x + bias`` below ``-lambd``, ``x - bias`` above ``lambd``, else 0."""
    x = node.float_in(0)
    bias, limit = constant(node.real("bias", 0.0)), node.real("lambd", 0.5)
    above = b.select(b.compare("gt", x, constant(limit)), b.sub(x, bias), constant(0.0))
    return b.select(b.compare("lt", x, constant(-limit)), b.add(x, bias), above)


@converter("Dropout")
def dropout(node: Node, b: Builder) -> list[Value]:
    """Identity at inference; the mask, if it is used, is true everywhere."""
    node.ignore("seed", "ratio")
    ratio = node.optional_array(1, "ratio")
    training = node.optional_array(2, "training_mode")
    if training is not None and bool(training) and (ratio is None or float(ratio) != 0):
        raise UnsupportedUseError("training_mode is on")
    x = node.input(0)
    return [x, constant(np.ones(dims(x), np.bool_))] if any(node.used[1:]) else [x]


@converter("Identity", moves=True)
def identity(node: Node, b: Builder) -> Value:
    return node.input(0)
