"""The definition of uqfc's arithmetic. Everything else is tested against this file for equality.

All functions are plain NumPy and written to be read. Conventions:

- quantized values are held in ``int32`` arrays here, whatever their storage type is;
- ``scale`` is float32, finite and > 0; real value = ``(q - zero_point) * scale``;
- rounding is half to even; clamping happens in float, before the conversion to int;
- every float operation is one IEEE float32 operation, rounded once, never contracted.

The piecewise-polynomial activations are written over an ``Arithmetic``, so that the same
expression is evaluated by NumPy here and emitted as LLVM IR by ``uqfc.codegen``: the order of
operations exists once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

F32: TypeAlias = NDArray[np.float32]
F64: TypeAlias = NDArray[np.float64]
I32: TypeAlias = NDArray[np.int32]

Vec: TypeAlias = Any
"""A float32 vector of some ``Arithmetic``: supports + - * / with itself and with Python floats."""

LANES = 16
"""Partial sums of a float reduction; fixed by the contract, independent of any machine."""


class Arithmetic(Protocol):
    """The float32 operations that are not Python operators. One IEEE operation each."""

    def maximum(self, a: Vec, b: Vec | float) -> Vec:
        """``b if b > a else a``: a NaN in ``a`` is kept."""
        ...

    def minimum(self, a: Vec, b: Vec | float) -> Vec:
        """``b if b < a else a``: a NaN in ``a`` is kept."""
        ...

    def select_less(self, a: Vec, b: Vec | float, then: Vec | float, other: Vec | float) -> Vec:
        """``then if a < b else other``, per lane."""
        ...

    def rint(self, a: Vec) -> Vec:
        """Round half to even; only called with ``|a| < 2**22``."""
        ...

    def sqrt(self, a: Vec) -> Vec:
        """IEEE square root."""
        ...

    def to_int(self, a: Vec) -> Vec:
        """int32 of an integral float32, ``|a| < 2**22``; supports + - & | << >> (arithmetic)."""
        ...

    def to_float(self, a: Vec) -> Vec:
        """float32 of an int32, rounded half to even."""
        ...

    def as_int(self, a: Vec) -> Vec:
        """The bits of a float32 as int32."""
        ...

    def as_float(self, a: Vec) -> Vec:
        """The bits of an int32 as float32."""
        ...


class NumpyArithmetic:
    """``Arithmetic`` on float32 / int32 arrays."""

    def maximum(self, a: Vec, b: Vec | float) -> Vec:
        return np.where(np.float32(b) > a, np.float32(b), a)

    def minimum(self, a: Vec, b: Vec | float) -> Vec:
        return np.where(np.float32(b) < a, np.float32(b), a)

    def select_less(self, a: Vec, b: Vec | float, then: Vec | float, other: Vec | float) -> Vec:
        return np.where(a < np.float32(b), np.float32(then), np.float32(other))

    def rint(self, a: Vec) -> Vec:
        return np.rint(a)

    def sqrt(self, a: Vec) -> Vec:
        return np.sqrt(a)

    def to_int(self, a: Vec) -> Vec:
        return np.asarray(a).astype(np.int32)

    def to_float(self, a: Vec) -> Vec:
        return np.asarray(a).astype(np.float32)

    def as_int(self, a: Vec) -> Vec:
        return np.asarray(a, np.float32).view(np.int32)

    def as_float(self, a: Vec) -> Vec:
        return np.asarray(a, np.int32).view(np.float32)


NUMPY = NumpyArithmetic()

# --- activations of a float32 epilogue -------------------------------------------------------


def relu(xp: Arithmetic, v: Vec) -> Vec:
    return xp.maximum(v, 0.0)


def clip(xp: Arithmetic, v: Vec, low: float, high: float) -> Vec:
    return xp.minimum(xp.maximum(v, low), high)


def hard_sigmoid(xp: Arithmetic, v: Vec, alpha: float, beta: float) -> Vec:
    return clip(xp, v * alpha + beta, 0.0, 1.0)


def hard_swish(xp: Arithmetic, v: Vec) -> Vec:
    return v * hard_sigmoid(xp, v, 1.0 / 6.0, 0.5)


def leaky_relu(xp: Arithmetic, v: Vec, alpha: float) -> Vec:
    return xp.select_less(v, 0.0, v * alpha, v)


@dataclass(frozen=True)
class Activation:
    """A member of ``ACTIVATIONS`` with its parameters (rounded to float32 where they are used)."""

    name: str
    params: tuple[float, ...] = ()

    def __call__(self, xp: Arithmetic, v: Vec) -> Vec:
        return ACTIVATIONS[self.name](xp, v, *self.params)

    @property
    def bounds(self) -> tuple[float, float] | None:
        """``(low, high)`` if this is a clamp, else None: a clamp costs nothing when quantized."""
        if self.name == "relu":
            return 0.0, float("inf")
        return (self.params[0], self.params[1]) if self.name == "clip" else None


ACTIVATIONS: dict[str, Callable[..., Vec]] = {
    "relu": relu,
    "clip": clip,
    "hard_sigmoid": hard_sigmoid,
    "hard_swish": hard_swish,
    "leaky_relu": leaky_relu,
}

# --- quantized tensors ------------------------------------------------------------------------


def round_clamped(v: F32, low: int, high: int) -> I32:
    """``rne(clamp(v, low, high))`` with NaN taken as 0; ``low``/``high`` within ±2**22."""
    v = np.where(np.isnan(v), np.float32(0), v)
    clamped = np.minimum(np.maximum(v, np.float32(low)), np.float32(high))
    return np.rint(clamped).astype(np.int32)


def quantize(x: F32, scale: F32, zero_point: I32, qmin: int, qmax: int) -> I32:
    """ONNX QuantizeLinear: ``clamp(rne(x / scale) + zero_point, qmin, qmax)``.

    NaN gives zero_point. ``scale`` and ``zero_point`` broadcast against ``x``. Clamping before
    rounding is the same as after it, because the bounds are integers.
    """
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        v = np.asarray(x, np.float32) / np.asarray(scale, np.float32)
    zp = np.asarray(zero_point, np.int32)
    v = np.where(np.isnan(v), np.float32(0), v)
    clamped = np.clip(v, (qmin - zp).astype(np.float32), (qmax - zp).astype(np.float32))
    return (np.rint(clamped).astype(np.int32) + zp).astype(np.int32)


def dequantize(q: I32, scale: F32, zero_point: I32) -> F32:
    """``float32(q - zero_point) * scale``: one float32 multiplication."""
    centred = np.asarray(q, np.int32) - np.asarray(zero_point, np.int32)
    with np.errstate(over="ignore", under="ignore"):
        return centred.astype(np.float32) * np.asarray(scale, np.float32)


def requantize(acc: I32, multiplier: F32, zero_point: int, qmin: int, qmax: int) -> I32:
    """``zp + rne(clamp(float32(acc) * m, qmin - zp, qmax - zp))``."""
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        v = np.asarray(acc, np.int32).astype(np.float32) * multiplier
    return zero_point + round_clamped(v, qmin - zero_point, qmax - zero_point)


def multiplier(*ratio: float | F32 | F64, over: float = 1.0) -> F32:
    """float32 of the float64 value ``prod(ratio) / over``, e.g. ``multiplier(sx, sw, over=sy)``."""
    product = np.asarray(1.0, np.float64)
    for factor in ratio:
        product = product * np.asarray(factor, np.float64)
    with np.errstate(over="ignore", under="ignore"):
        return np.asarray(product / np.float64(over)).astype(np.float32)


def fold_bias(bias: F64 | F32, scale: F64 | F32, zero_point_term: NDArray[np.int64]) -> I32:
    """``rne(bias / scale) + zero_point_term`` as int32; ``scale`` is ``sx * sw`` in float64.

    Raises OverflowError where the sum does not fit, or the bias is not a number.
    """
    q = np.rint(np.asarray(bias, np.float64) / np.asarray(scale, np.float64))
    total = q + zero_point_term.astype(np.float64)
    if not np.all(np.abs(total) < 2.0**31):
        raise OverflowError("folded bias does not fit int32")
    return total.astype(np.int64).astype(np.int32)


def add_quantized(
    a: I32, za: int, ma: F32, b: I32, zb: int, mb: F32, low: int, high: int, zy: int
) -> I32:
    """``zy + rne(clamp(f32(a - za) * ma + f32(b - zb) * mb, low, high))``; ``m* = s* / sy``."""
    left: F32 = (np.asarray(a, np.int32) - za).astype(np.float32)
    right: F32 = (np.asarray(b, np.int32) - zb).astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        return zy + round_clamped(np.add(left * ma, right * mb), low, high)


def mul_quantized(a: I32, za: int, b: I32, zb: int, m: F32, low: int, high: int, zy: int) -> I32:
    """``zy + rne(clamp(f32((a - za) * (b - zb)) * m, low, high))``; the product is exact int32."""
    product = (np.asarray(a, np.int32) - za) * (np.asarray(b, np.int32) - zb)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        return zy + round_clamped(product.astype(np.float32) * m, low, high)


def lookup_table(
    function: Callable[[F64], F64], sx: float, zx: int, sy: float, zy: int, low: int, high: int
) -> NDArray[np.uint8]:
    """256 entries ``clamp(rne(f((i - zx) * sx) / sy) + zy, low, high)`` computed in float64."""
    x = (np.arange(256, dtype=np.float64) - zx) * np.float64(np.float32(sx))
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        v = np.nan_to_num(function(x) / np.float64(np.float32(sy)), posinf=np.inf, neginf=-np.inf)
    return (np.rint(np.clip(v, low - zy, high - zy)) + zy).astype(np.uint8)


# --- float32 reductions -----------------------------------------------------------------------


def tree_sum(partial: F32) -> F32:
    """Pairwise tree over the last axis (``LANES`` wide): halves are added until one is left."""
    width = partial.shape[-1]
    while width > 1:
        width //= 2
        partial = partial[..., :width] + partial[..., width : 2 * width]
    return partial[..., 0]


def strided_sum(x: F32) -> F32:
    """Sum over the last axis: lane ``l`` adds elements ``l, l+16, …`` from +0.0, then a tree."""
    lanes = np.zeros((*x.shape[:-1], LANES), np.float32)
    for start in range(0, x.shape[-1], LANES):
        chunk = x[..., start : start + LANES]
        lanes[..., : chunk.shape[-1]] += chunk
    return tree_sum(lanes)


def strided_matmul(a: F32, b: F32) -> F32:
    """``a @ b`` for float32 [M, K] x [K, N] with ``strided_sum``'s order over K.

    Each product is rounded, then added: no fused multiply-add.
    """
    m, k = a.shape
    n = b.shape[1]
    lanes = np.zeros((LANES, m, n), np.float32)
    for i in range(k):
        lanes[i % LANES] += a[:, i, None] * b[None, i, :]
    return tree_sum(np.moveaxis(lanes, 0, -1))
