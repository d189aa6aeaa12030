"""Elementwise float functions: the float32 definition (shared with codegen) and the float64 one.

``UNARY[name].f32`` is written over an ``Arithmetic`` and is the meaning of the function on float32
tensors, to the bit (NaN payloads excepted). ``UNARY[name].f64`` is what a 256-entry table of a
quantized tensor is built from (``numerics.lookup_table``).

A NaN gives a NaN. Denormal operands and results are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from uqfc import elementary_exponential as e
from uqfc import elementary_float64 as d
from uqfc import elementary_rounding as r
from uqfc import elementary_special as s
from uqfc.numerics import ACTIVATIONS, F32, F64, NUMPY, Vec


@dataclass(frozen=True)
class Unary:
    """An elementwise function of one tensor and ``parameters`` float constants."""

    parameters: int
    f32: Callable[..., Vec]
    f64: Callable[..., F64]


def evaluate(name: str, x: F32, parameters: Sequence[float] = ()) -> F32:
    """``UNARY[name].f32`` on an array of any shape."""
    with np.errstate(all="ignore"):
        values = UNARY[name].f32(NUMPY, np.atleast_1d(np.asarray(x, np.float32)), *parameters)
    return np.asarray(values, np.float32).reshape(np.shape(x))


def evaluate_pow(x: F32, y: F32) -> F32:
    """``x**y``, broadcast (``elementary_special.power``)."""
    shape = np.broadcast_shapes(np.shape(x), np.shape(y))
    left: F32 = np.atleast_1d(np.asarray(x, np.float32))
    right: F32 = np.atleast_1d(np.asarray(y, np.float32))
    with np.errstate(all="ignore"):
        values = s.power(NUMPY, left, right)
    return np.asarray(values, np.float32).reshape(shape)


UNARY: dict[str, Unary] = {
    "abs": Unary(0, e.absolute, np.abs),
    "ceil": Unary(0, r.ceil, np.ceil),
    "celu": Unary(1, e.celu, d.celu),
    "clip": Unary(2, ACTIVATIONS["clip"], d.clip),
    "cos": Unary(0, s.cos, np.cos),
    "elu": Unary(1, e.elu, d.elu),
    "erf": Unary(0, s.erf, d.erf),
    "exp": Unary(0, e.exp, np.exp),
    "floor": Unary(0, r.floor, np.floor),
    "gelu": Unary(0, s.gelu, d.gelu),
    "gelu_tanh": Unary(0, s.gelu_tanh, d.gelu_tanh),
    "hard_sigmoid": Unary(2, ACTIVATIONS["hard_sigmoid"], d.hard_sigmoid),
    "hard_swish": Unary(0, ACTIVATIONS["hard_swish"], d.hard_swish),
    "leaky_relu": Unary(1, ACTIVATIONS["leaky_relu"], d.leaky_relu),
    "log": Unary(0, e.log, np.log),
    "mish": Unary(0, e.mish, d.mish),
    "neg": Unary(0, r.negate, np.negative),
    "reciprocal": Unary(0, r.reciprocal, np.reciprocal),
    "relu": Unary(0, ACTIVATIONS["relu"], d.relu),
    "round": Unary(0, r.round_half_even, np.rint),
    "selu": Unary(0, e.selu, d.selu),
    "sigmoid": Unary(0, e.sigmoid, d.sigmoid),
    "sign": Unary(0, r.sign, np.sign),
    "silu": Unary(0, e.silu, d.silu),
    "sin": Unary(0, s.sin, np.sin),
    "softplus": Unary(0, e.softplus, d.softplus),
    "softsign": Unary(0, r.softsign, d.softsign),
    "sqrt": Unary(0, r.sqrt, np.sqrt),
    "tanh": Unary(0, e.tanh, np.tanh),
    "thresholded_relu": Unary(1, r.thresholded_relu, d.thresholded_relu),
}
"""Parameters: celu/elu/leaky_relu/thresholded_relu ``alpha``, clip ``low, high``, hard_sigmoid
``alpha, beta``."""
