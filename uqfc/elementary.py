"""Elementwise float functions: the float32 definition (shared with codegen) and the float64 one.

``UNARY[name].f32`` is written over an ``Arithmetic`` and is the meaning of the function on float32
tensors, to the bit (NaN payloads excepted). ``UNARY[name].f64`` is what a 256-entry table of a
quantized tensor is built from (``numerics.lookup_table``).

A NaN gives a NaN. Denormal operands and results are kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from uqfc import elementary_exponential as e
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
    """``x**y``, broadcast (``elementary_special.pow``)."""
    x, y = np.broadcast_arrays(np.asarray(x, np.float32), np.asarray(y, np.float32))
    with np.errstate(all="ignore"):
        values = s.pow(NUMPY, np.atleast_1d(x), np.atleast_1d(y))
    return np.asarray(values, np.float32).reshape(x.shape)


# --- the float64 definitions ------------------------------------------------------------------

_erf: Callable[[F64], F64] = np.vectorize(math.erf, otypes=[np.float64])
_erfc: Callable[[F64], F64] = np.vectorize(math.erfc, otypes=[np.float64])


def _sigmoid(x: F64) -> F64:
    z = np.exp(-np.abs(x))
    return np.where(x < 0, z, 1.0) / (1.0 + z)


def _softplus(x: F64) -> F64:
    return np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x)))


def _gelu(x: F64) -> F64:
    return np.maximum(x, -40.0) * 0.5 * _erfc(-x / math.sqrt(2.0))


def _gelu_tanh(x: F64) -> F64:
    c = np.maximum(x, -40.0)
    return c * _sigmoid(2.0 * math.sqrt(2.0 / math.pi) * c * (1.0 + 0.044715 * c * c))


def _mish(x: F64) -> F64:
    e = np.exp(np.minimum(x, 40.0))
    return np.maximum(x, -800.0) * (e * (e + 2.0) / (e * (e + 2.0) + 2.0))


def _elu(x: F64, alpha: float) -> F64:
    return np.where(x < 0, alpha * np.expm1(np.minimum(x, 0.0)), x)


def _selu(x: F64) -> F64:
    return e.SELU_SCALE * _elu(x, e.SELU_ALPHA)


def _celu(x: F64, alpha: float) -> F64:
    return np.where(x < 0, alpha * np.expm1(np.minimum(x, 0.0) / alpha), x)


def _softsign(x: F64) -> F64:
    bounded = np.clip(x, -1e300, 1e300)
    return bounded / (1.0 + np.abs(bounded))


UNARY: dict[str, Unary] = {
    "abs": Unary(0, e.absolute, np.abs),
    "ceil": Unary(0, r.ceil, np.ceil),
    "celu": Unary(1, e.celu, _celu),
    "clip": Unary(2, ACTIVATIONS["clip"], lambda x, lo, hi: np.minimum(np.maximum(x, lo), hi)),
    "cos": Unary(0, s.cos, np.cos),
    "elu": Unary(1, e.elu, _elu),
    "erf": Unary(0, s.erf, _erf),
    "exp": Unary(0, e.exp, np.exp),
    "floor": Unary(0, r.floor, np.floor),
    "gelu": Unary(0, s.gelu, _gelu),
    "gelu_tanh": Unary(0, s.gelu_tanh, _gelu_tanh),
    "hard_sigmoid": Unary(
        2, ACTIVATIONS["hard_sigmoid"], lambda x, a, b: np.clip(a * x + b, 0.0, 1.0)
    ),
    "hard_swish": Unary(
        0, ACTIVATIONS["hard_swish"], lambda x: x * np.clip(x / 6.0 + 0.5, 0.0, 1.0)
    ),
    "leaky_relu": Unary(1, ACTIVATIONS["leaky_relu"], lambda x, a: np.where(x < 0, a * x, x)),
    "log": Unary(0, e.log, np.log),
    "mish": Unary(0, e.mish, _mish),
    "neg": Unary(0, r.negate, np.negative),
    "reciprocal": Unary(0, r.reciprocal, np.reciprocal),
    "relu": Unary(0, ACTIVATIONS["relu"], lambda x: np.maximum(x, 0.0)),
    "round": Unary(0, r.round_half_even, np.rint),
    "selu": Unary(0, e.selu, _selu),
    "sigmoid": Unary(0, e.sigmoid, _sigmoid),
    "sign": Unary(0, r.sign, np.sign),
    "silu": Unary(0, e.silu, lambda x: np.maximum(x, -800.0) * _sigmoid(x)),
    "sin": Unary(0, s.sin, np.sin),
    "softplus": Unary(0, e.softplus, _softplus),
    "softsign": Unary(0, r.softsign, _softsign),
    "sqrt": Unary(0, r.sqrt, np.sqrt),
    "tanh": Unary(0, e.tanh, np.tanh),
    "thresholded_relu": Unary(1, r.thresholded_relu, lambda x, a: np.where(x > a, x, x * 0.0)),
}
"""Parameters: celu/elu/leaky_relu/thresholded_relu ``alpha``, clip ``low, high``, hard_sigmoid
``alpha, beta``."""
