"""The elementwise functions in float64: what the tables of quantized tensors are computed with."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from uqfc.elementary_exponential import SELU_ALPHA, SELU_SCALE
from uqfc.numerics import F64

erf: Callable[[F64], F64] = np.vectorize(math.erf, otypes=[np.float64])
erfc: Callable[[F64], F64] = np.vectorize(math.erfc, otypes=[np.float64])


def relu(x: F64) -> F64:
    return np.maximum(x, 0.0)


def clip(x: F64, low: float, high: float) -> F64:
    return np.minimum(np.maximum(x, low), high)


def hard_sigmoid(x: F64, alpha: float, beta: float) -> F64:
    return np.clip(alpha * x + beta, 0.0, 1.0)


def hard_swish(x: F64) -> F64:
    return x * np.clip(x / 6.0 + 0.5, 0.0, 1.0)


def leaky_relu(x: F64, alpha: float) -> F64:
    return np.where(x < 0, alpha * x, x)


def thresholded_relu(x: F64, alpha: float) -> F64:
    return np.where(x > alpha, x, np.where(np.isnan(x), x, 0.0))


def sigmoid(x: F64) -> F64:
    z = np.exp(-np.abs(x))
    return np.where(x < 0, z, 1.0) / (1.0 + z)


def silu(x: F64) -> F64:
    return np.maximum(x, -800.0) * sigmoid(x)


def softplus(x: F64) -> F64:
    return np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x)))


def gelu(x: F64) -> F64:
    return np.maximum(x, -40.0) * 0.5 * erfc(-x / math.sqrt(2.0))


def gelu_tanh(x: F64) -> F64:
    c = np.maximum(x, -40.0)
    return c * sigmoid(2.0 * math.sqrt(2.0 / math.pi) * c * (1.0 + 0.044715 * c * c))


def mish(x: F64) -> F64:
    e = np.exp(np.minimum(x, 40.0))
    n = e * (e + 2.0)
    return np.maximum(x, -800.0) * (n / (n + 2.0))


def elu(x: F64, alpha: float) -> F64:
    return np.where(x < 0, alpha * np.expm1(np.minimum(x, 0.0)), x)


def selu(x: F64) -> F64:
    return SELU_SCALE * elu(x, SELU_ALPHA)


def celu(x: F64, alpha: float) -> F64:
    return np.where(x < 0, alpha * np.expm1(np.minimum(x, 0.0) / alpha), x)


def softsign(x: F64) -> F64:
    bounded = np.clip(x, -1e300, 1e300)
    return bounded / (1.0 + np.abs(bounded))
