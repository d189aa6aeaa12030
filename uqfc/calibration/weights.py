"""Post-training quantization of weights: ranges, equalization, bias correction. NumPy only.

Layouts: convolution ``[O, kh, kw, I/groups]``, depthwise ``[C, kh, kw, 1]``, linear ``[O, I]``.
Layer-wise reconstruction is in ``uqfc.calibration.reconstruction``.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import NamedTuple

import numpy as np

from uqfc.calibration.least_error import least_error_ranges
from uqfc.calibration.parameters import affine_parameters
from uqfc.errors import CalibrationError
from uqfc.numerics import F32, F64, I32, dequantize, quantize


class WeightMethod(StrEnum):
    """How the range of weights is chosen."""

    MINMAX = "minmax"
    MSE = "mse"


class QuantizedWeights(NamedTuple):
    """``w ≈ (q - zero_point) * scale``; the parameters are [channels], or [] per tensor."""

    q: I32
    scale: F32
    zero_point: I32

    def dequantize(self, axis: int | None = 0) -> F32:
        """The values, with the ``axis`` that was given to ``quantize_weights``."""
        shape = parameter_shape(self.q.shape, axis)
        return dequantize(self.q, self.scale.reshape(shape), self.zero_point.reshape(shape))


def parameter_shape(shape: tuple[int, ...], axis: int | None) -> tuple[int, ...]:
    """The shape in which per-channel (or, without axis, per-tensor) parameters broadcast."""
    if axis is None:
        return ()
    return tuple(n if i == axis % len(shape) else 1 for i, n in enumerate(shape))


def integer_range(bits: int) -> tuple[int, int]:
    """``(qmin, qmax)`` of a signed type of 2 to 16 bits, its whole range."""
    if not 2 <= bits <= 16:
        raise CalibrationError(f"weights of {bits} bits; accepted: 2 to 16")
    return -(1 << (bits - 1)), (1 << (bits - 1)) - 1


def quantize_weights(
    w: F32,
    qmin: int,
    qmax: int,
    *,
    axis: int | None = 0,
    symmetric: bool = True,
    method: str = WeightMethod.MINMAX,
) -> QuantizedWeights:
    """Quantize float32 weights per channel of ``axis``, or per tensor if it is None.

    ``minmax`` clips nothing; ``mse`` searches the range with the least squared error per channel,
    which is never more than that of ``minmax``. All-zero channels get scale 1.
    Raises CalibrationError if a weight is not finite.
    """
    if method not in list(WeightMethod):
        raise CalibrationError(
            f"unknown weight range method '{method}'; accepted: {', '.join(WeightMethod)}"
        )
    if not np.isfinite(w).all():
        raise CalibrationError("weights hold NaN or infinite values")
    moved = np.reshape(w, (1, -1)) if axis is None else np.moveaxis(w, axis, 0)
    rows = np.ascontiguousarray(moved, np.float32).reshape(moved.shape[0], -1)
    low, high = rows.min(axis=1, initial=0.0), rows.max(axis=1, initial=0.0)
    if method == WeightMethod.MSE:
        low, high = least_error_ranges(rows, low, high, qmin, qmax, symmetric=symmetric)
    scale, zero_point = affine_parameters(low, high, qmin, qmax, symmetric=symmetric)
    shape = parameter_shape(w.shape, axis)
    scale, zero_point = scale.reshape(shape), zero_point.reshape(shape)
    q = quantize(w, scale, zero_point, qmin, qmax)
    flat = () if axis is None else (-1,)
    return QuantizedWeights(q, scale.reshape(flat), zero_point.reshape(flat))


class Equalized(NamedTuple):
    """The rescaled layers, and the scale that each channel between them was divided by."""

    w1: F32
    b1: F32 | None
    w2: F32
    scales: F32


def equalize(w1: F32, b1: F32 | None, w2: F32, *, exact: bool = True) -> Equalized:
    """Cross-layer equalization of two layers with a ReLU (or leaky ReLU) or nothing in between.

    M. Nagel et al., "Data-Free Quantization through Weight Equalization and Bias Correction"
    (ICCV 2019), section 4.1: ``s = sqrt(r1 / r2)`` with ``r`` the largest absolute weight that
    makes, or that reads, a channel; ``w1 / s``, ``b1 / s``, ``w2 * s``. Channels where a range is
    0 are left alone.

    Output channels of ``w1`` are its axis 0; ``w2`` is depthwise ``[C, kh, kw, 1]`` or has the
    channels last. ``exact`` rounds the scales to powers of two: the function computed is then the
    same to the bit (short of overflow or denormals), and the ranges agree within a factor 2.
    """
    channels = len(w1)
    depthwise = w2.ndim == 4 and w2.shape[-1] == 1 and w2.shape[0] == channels
    axis = 0 if depthwise else w2.ndim - 1
    if w2.shape[axis] != channels:
        raise ValueError(f"w1 {w1.shape} makes {channels} channels; w2 {w2.shape} reads others")
    r1 = np.abs(w1).reshape(channels, -1).max(axis=1, initial=0.0).astype(np.float64)
    r2 = np.abs(np.moveaxis(w2, axis, 0)).reshape(channels, -1).max(axis=1, initial=0.0)
    usable = (r1 > 0) & (r2 > 0)
    exponent = np.log2(r1, where=usable, out=np.zeros(channels))
    exponent -= np.log2(r2.astype(np.float64), where=usable, out=np.zeros(channels))
    exponent /= 2
    scales = np.exp2(np.rint(exponent) if exact else exponent).astype(np.float32)
    return Equalized(
        w1 / scales.reshape(parameter_shape(w1.shape, 0)),
        None if b1 is None else b1 / scales,
        w2 * scales.reshape(parameter_shape(w2.shape, axis)),
        scales,
    )


def bias_correction(w: F32, w_hat: F32, mean_x: F64 | F32) -> F64:
    """What to add to the bias so that the expected output is that of ``w``: ``(w - w_hat) @ E[x]``.

    Nagel et al. (2019), section 4.2. ``w`` and ``w_hat`` are float32 weights of one layout.
    ``mean_x`` is the mean of each input channel, ``[I]`` (padding neglected; grouped channels
    follow one another), or of each element of the patches, ``[groups, K]`` with ``K`` the weights
    of an output channel (``GramAccumulator.mean``: exact). Returns float64 ``[O]``.
    """
    difference = np.asarray(w, np.float64) - np.asarray(w_hat, np.float64)
    outputs, inputs = w.shape[0], w.shape[-1]
    mean = np.asarray(mean_x, np.float64)
    if mean.ndim == 1:
        # One mean for all positions of the kernel.
        difference = difference.reshape(outputs, -1, inputs).sum(axis=1)
        mean = mean.reshape(-1, inputs)
    groups = len(mean)
    if outputs % groups or mean.shape[1] != math.prod(difference.shape[1:]):
        raise ValueError(f"means {np.shape(mean_x)} do not fit weights {w.shape}")
    grouped = difference.reshape(groups, outputs // groups, -1)
    return np.einsum("gok,gk->go", grouped, mean).reshape(outputs)
