"""From a range of real values to the scale and zero point of a quantized tensor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from uqfc.errors import CalibrationError
from uqfc.numerics import F32, F64, I32

SMALLEST_SCALE = 2.0**-64
"""Scales are not below this: values so small are quantized to zero, and no multiplier made of such
scales (``sx * sw / sy``) overflows float32 because of a tensor that is as good as zero."""

_LARGEST_SCALE = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class QuantizationParameters:
    """Per-tensor parameters; ``scale`` is a float32 value, ``qmin <= zero_point <= qmax``."""

    scale: float
    zero_point: int
    qmin: int
    qmax: int

    @property
    def range(self) -> tuple[float, float]:
        """The real values of ``qmin`` and ``qmax``."""
        return (self.qmin - self.zero_point) * self.scale, (
            self.qmax - self.zero_point
        ) * self.scale


def affine_parameters(
    low: ArrayLike, high: ArrayLike, qmin: int, qmax: int, *, symmetric: bool = False
) -> tuple[F32, I32]:
    """``(scale, zero_point)``, elementwise, for real ranges ``[low, high]`` widened to hold zero.

    Asymmetric: ``scale = float32((high - low) / (qmax - qmin))`` and ``zero_point =
    clamp(rne(qmin - low / scale), qmin, qmax)``; the representable range misses either end by at
    most half a step. Symmetric: ``zero_point = (qmin + qmax + 1) // 2`` (0 for signed, 128 for u8)
    and the smallest scale with which neither end is clipped. Zero is always exact.

    An all-zero range gets scale 1; other scales are at least ``SMALLEST_SCALE``. With scale 1 and
    an asymmetric type the zero point is ``qmin`` (or the nearest to 0 that fits).
    """
    if qmin >= qmax:
        raise CalibrationError(f"qmin {qmin} is not below qmax {qmax}")
    lo = np.minimum(np.asarray(low, np.float64), 0.0)
    hi = np.maximum(np.asarray(high, np.float64), 0.0)
    if not (np.isfinite(lo).all() and np.isfinite(hi).all()):
        raise CalibrationError("a range is not finite")
    if symmetric:
        zero_point = (qmin + qmax + 1) // 2
        # With two levels (0 and 1 around zero point 1) the upper side has no level of its own.
        upper = hi / max(qmax - zero_point, 1)
        scale = _usable(np.maximum(upper, -lo / (zero_point - qmin)))
        return scale, np.full(scale.shape, zero_point, np.int32)
    scale = _usable((hi - lo) / (qmax - qmin))
    zero_point = np.clip(np.rint(qmin - lo / scale.astype(np.float64)), qmin, qmax)
    return scale, zero_point.astype(np.int32)


def _usable(scale: F64) -> F32:
    clamped = np.clip(scale, SMALLEST_SCALE, _LARGEST_SCALE)
    return np.asarray(np.where(scale == 0.0, 1.0, clamped)).astype(np.float32)


def float8_scale(low: ArrayLike, high: ArrayLike, largest: float) -> F32:
    """Scales, elementwise, that make the larger end of real ranges the largest number of a format.

    ``float32(max(|low|, |high|) / largest)``. A float's steps are as fine, relative to the value,
    wherever in its range the value is, so there is nothing to gain from clipping; and the largest
    scale leaves the fewest values to the denormals. An all-zero range gets scale 1.
    """
    ends = np.maximum(np.abs(np.asarray(low, np.float64)), np.abs(np.asarray(high, np.float64)))
    if not np.isfinite(ends).all():
        raise CalibrationError("a range is not finite")
    return _usable(ends / largest)


def activation_parameters(
    low: float, high: float, qmin: int = 0, qmax: int = 255, *, symmetric: bool = False
) -> QuantizationParameters:
    """Per-tensor parameters of ``affine_parameters``; by default u8, asymmetric."""
    scale, zero_point = affine_parameters(low, high, qmin, qmax, symmetric=symmetric)
    return QuantizationParameters(float(scale), int(zero_point), qmin, qmax)
