"""Scales of weights with two or three levels: the least squared error, in closed form.

With ``r`` the magnitudes of a channel's weights in falling order, a scale ``s`` and the ``k``
largest weights at ``±s``, the squared error is ``Σ r² - 2 s (r₁ + … + r_k) + k s²``. It is least at
the mean of those ``k``, where it is ``Σ r² - (r₁ + … + r_k)² / k``. Binary weights have ``k = n``;
for ternary ones (F. Li et al., "Ternary Weight Networks", 2016, approximate this) every ``k`` is
tried. At the best ``k`` no weight is nearer to another level: else moving it there would be better
still. So rounding to nearest gives the same ``k``.
"""

from __future__ import annotations

import numpy as np

from uqfc.calibration.weights import QuantizedWeights, parameter_shape
from uqfc.errors import CalibrationError
from uqfc.numerics import F32, F64, I32, quantize


def ternary_weights(w: F32, axis: int | None = 0) -> QuantizedWeights:
    """``w ≈ q * scale`` with q in -1, 0, 1 and the least squared error per channel of ``axis``.

    Per tensor if ``axis`` is None. Channels of zeros get scale 1. CalibrationError if a weight is
    not finite.
    """
    rows = _magnitudes(w, axis)
    kept = np.cumsum(-np.sort(-rows, axis=1), axis=1)
    counts = np.arange(1, rows.shape[1] + 1, dtype=np.float64)
    best = np.argmax(kept * kept / counts, axis=1)
    scale = _usable(kept[np.arange(len(rows)), best] / counts[best])
    shaped = scale.reshape(parameter_shape(w.shape, axis))
    q = quantize(w, shaped, np.zeros(shaped.shape, np.int32), -1, 1)
    return _result(q, scale, axis)


def binary_weights(w: F32, axis: int | None = 0) -> QuantizedWeights:
    """``w ≈ q * scale`` with q in -1, 1 (0 becomes 1); otherwise as ``ternary_weights``."""
    rows = _magnitudes(w, axis)
    return _result(signs(w), _usable(rows.mean(axis=1)), axis)


def signs(w: F32) -> I32:
    """-1 below 0, otherwise 1."""
    return np.where(w < 0, -1, 1).astype(np.int32)


def _magnitudes(w: F32, axis: int | None) -> F64:
    """|w| as [channels, n]; a zero if there is none."""
    if not np.isfinite(w).all():
        raise CalibrationError("weights hold NaN or infinite values")
    moved = np.reshape(w, (1, -1)) if axis is None else np.moveaxis(w, axis, 0)
    if not moved.size:
        return np.zeros((len(moved), 1))
    return np.abs(moved.reshape(len(moved), -1).astype(np.float64))


def _usable(means: F64) -> F32:
    scale = means.astype(np.float32)
    return np.where(scale > 0, scale, np.float32(1))


def _result(q: I32, scale: F32, axis: int | None) -> QuantizedWeights:
    flat = scale.reshape(() if axis is None else (-1,))
    return QuantizedWeights(q, flat, np.zeros(flat.shape, np.int32))
