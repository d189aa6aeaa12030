"""Quantized activations as the integer graph has them: unsigned, per tensor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from xdsl.ir import SSAValue

from uqfc.dialects.quant import STORAGE_ELEMENTS, QuantParams
from uqfc.numerics import F32, quantize

LARGEST_MULTIPLIER = 2.0**90
"""With multipliers up to this no float32 of an epilogue overflows, as sums are below ``2**31``:
none is NaN."""


def are_usable(*multipliers: F32 | float) -> bool:
    """Whether kernels may multiply by all of these."""
    return all(bool(np.all(np.abs(m) <= LARGEST_MULTIPLIER)) for m in multipliers)


@dataclass(frozen=True)
class Affine:
    """Parameters of a ui8 activation, all within 0:255.

    ``qmin <= zero_point <= qmax`` but for what ``clamped`` gives.
    """

    scale: float
    zero_point: int
    qmin: int = 0
    qmax: int = 255

    def is_kept_by(self, target: Affine) -> bool:
        """Whether ``quantize(dequantize(q))`` to ``target`` is ``q``.

        ``(q - zero_point) * scale / scale`` differs from an integer below 256 by at most
        ``2**-23`` of it, unless the product overflows; denormal products are exact.
        """
        largest = float(np.finfo(np.float32).max) / 256
        return self == target and self.scale < largest

    def clamped(self, low: float, high: float) -> Affine:
        """With the bounds of ``minimum(maximum(x, low), high)`` (a fused clamp)."""
        scale, zero = np.asarray(self.scale, np.float32), np.asarray(self.zero_point, np.int32)
        ends = np.asarray([min(low, high), high], np.float32)
        bounds = quantize(ends, scale, zero, self.qmin, self.qmax)
        return Affine(self.scale, self.zero_point, int(bounds[0]), int(bounds[1]))


@dataclass(frozen=True)
class Quantized:
    """A ui8 value and what its integers mean."""

    value: SSAValue
    affine: Affine


def unsigned(params: QuantParams) -> Affine | None:
    """The ui8 form of per-tensor 8-bit (or narrower) parameters; None for any others."""
    if params.axis is not None or params.storage not in STORAGE_ELEMENTS:
        return None
    shift = 128 if params.storage[0] == "i" else 0
    return Affine(
        params.scales[0], params.zero_points[0] + shift, params.qmin + shift, params.qmax + shift
    )
