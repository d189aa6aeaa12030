"""``numerics.Arithmetic`` on torch tensors, and the roundings of ``numerics``.

Each operation is one torch kernel, so that none is contracted with the next: ``torch.add`` with
``alpha`` and ``addcmul``, which fuse, are not used. A divisor, or a dividend, that is a Python
number is made a tensor: CUDA would multiply by the reciprocal.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from uqfc.numerics import Activation, Arithmetic, Vec


def scalar(value: float, like: Tensor) -> Tensor:
    """A tensor of no dimensions, of the type and device of ``like``."""
    return torch.full((), value, dtype=like.dtype, device=like.device)


@dataclass(frozen=True, slots=True, eq=False)
class Lanes:
    """A float32 or int32 tensor with the operators of a ``numerics.Vec``."""

    t: Tensor

    def __add__(self, other: Lanes | float) -> Lanes:
        return Lanes(self.t + _plain(other))

    def __radd__(self, other: float) -> Lanes:
        return Lanes(self.t + other)

    def __sub__(self, other: Lanes | float) -> Lanes:
        return Lanes(self.t - _plain(other))

    def __rsub__(self, other: float) -> Lanes:
        return Lanes(scalar(other, self.t) - self.t)

    def __mul__(self, other: Lanes | float) -> Lanes:
        return Lanes(self.t * _plain(other))

    def __rmul__(self, other: float) -> Lanes:
        return Lanes(self.t * other)

    def __truediv__(self, other: Lanes | float) -> Lanes:
        return Lanes(self.t / _tensor(other, self.t))

    def __rtruediv__(self, other: float) -> Lanes:
        return Lanes(scalar(other, self.t) / self.t)

    def __neg__(self) -> Lanes:
        return Lanes(-self.t)

    def __and__(self, other: Lanes | int) -> Lanes:
        return Lanes(self.t & _plain(other))

    def __or__(self, other: Lanes | int) -> Lanes:
        return Lanes(self.t | _plain(other))

    def __lshift__(self, bits: int) -> Lanes:
        return Lanes(self.t << bits)

    def __rshift__(self, bits: int) -> Lanes:
        return Lanes(self.t >> bits)


def _plain(value: Lanes | float) -> Any:
    return value.t if isinstance(value, Lanes) else value


def _tensor(value: Lanes | float, like: Tensor) -> Tensor:
    return value.t if isinstance(value, Lanes) else scalar(float(value), like)


class TorchArithmetic:
    """``Arithmetic`` whose vectors are ``Lanes``. Gives the bits of ``NumpyArithmetic``."""

    def maximum(self, a: Vec, b: Vec | float) -> Vec:
        other = _tensor(b, a.t)
        return Lanes(torch.where(other > a.t, other, a.t))

    def minimum(self, a: Vec, b: Vec | float) -> Vec:
        other = _tensor(b, a.t)
        return Lanes(torch.where(other < a.t, other, a.t))

    def select_less(self, a: Vec, b: Vec | float, then: Vec | float, other: Vec | float) -> Vec:
        chosen, rest = _tensor(then, a.t), _tensor(other, a.t)
        return Lanes(torch.where(a.t < _tensor(b, a.t), chosen, rest))

    def rint(self, a: Vec) -> Vec:
        return Lanes(torch.round(a.t))

    def sqrt(self, a: Vec) -> Vec:
        return Lanes(square_root(a.t))

    def to_int(self, a: Vec) -> Vec:
        return Lanes(a.t.to(torch.int32))

    def to_float(self, a: Vec) -> Vec:
        return Lanes(a.t.to(torch.float32))

    def as_int(self, a: Vec) -> Vec:
        return Lanes(a.t.view(torch.int32))

    def as_float(self, a: Vec) -> Vec:
        return Lanes(a.t.view(torch.float32))


TORCH: Arithmetic = TorchArithmetic()


def square_root(x: Tensor) -> Tensor:
    """The IEEE square root of float32, which torch does not promise.

    It is the root in float64, rounded. A root ``r`` that is no float32 is farther than ``2**-52 r``
    from the middle ``m`` of two of them: ``m**2`` has a last bit that no float32 has, so that it
    differs from ``r**2`` by at least that bit, ``2**-50`` of it. So an error in float64's last
    place cannot move ``r`` across ``m``.
    """
    return torch.sqrt(x.to(torch.float64)).to(torch.float32)


def evaluate(function: Any, *operands: Tensor | float) -> Tensor:
    """``function(TORCH, …)`` of float32 tensors and Python numbers: a float32 tensor.

    ``function`` is written over an ``Arithmetic``: a value of ``numerics.ACTIVATIONS`` or of
    ``elementary.UNARY``.
    """
    vectors = (Lanes(o) if isinstance(o, Tensor) else o for o in operands)
    return function(TORCH, *vectors).t


def activated(activation: Activation | None, v: Tensor) -> Tensor:
    """A fused activation on float32, to the bit; ``v`` itself without one."""
    return v if activation is None else evaluate(activation, v)


def round_clamped(v: Tensor, low: int, high: int) -> Tensor:
    """``numerics.round_clamped``: float32 that holds integers, NaN taken as 0."""
    finite = torch.nan_to_num(v, nan=0.0, posinf=math.inf, neginf=-math.inf)
    return finite.clamp_(low, high).round_()


def unsigned(v: Tensor, zero_point: int, qmin: int, qmax: int) -> Tensor:
    """``zero_point + rne(clamp(v, qmin - zero_point, qmax - zero_point))`` as uint8."""
    return round_clamped(v, qmin - zero_point, qmax - zero_point).add_(zero_point).to(torch.uint8)


def quantize(x: Tensor, scale: float, zero_point: int, qmin: int = 0, qmax: int = 255) -> Tensor:
    """``numerics.quantize`` of float32 to uint8."""
    return unsigned(x / scalar(scale, x), zero_point, qmin, qmax)


def centred(q: Tensor, zero_point: int) -> Tensor:
    """``float32(q - zero_point)`` of uint8: exact."""
    return q.to(torch.float32) - zero_point


def dequantize(q: Tensor, scale: float, zero_point: int) -> Tensor:
    """``numerics.dequantize`` of uint8 or int32 to float32."""
    if q.dtype == torch.uint8:
        return centred(q, zero_point) * scale
    return (q.to(torch.int32) - zero_point).to(torch.float32) * scale
