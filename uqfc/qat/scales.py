"""Learned scales: parameters are the base-2 logarithms, so that a step is relative for every
optimizer and a scale stays positive. Where they start from: the least squared error.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from uqfc.calibration import (
    Observer,
    WeightMethod,
    activation_parameters,
    make_observer,
    quantize_weights,
)
from uqfc.errors import CalibrationError
from uqfc.numerics import F32, F64

LOWEST_LOG2, HIGHEST_LOG2 = -64.0, 126.0
"""Scales are not outside of this: what ``uqfc.calibration`` and ``quantize-weights`` accept."""

_LN2 = math.log(2.0)
_EXPONENTIAL = tuple(1.0 / math.factorial(n) for n in range(13, -1, -1))
"""Taylor coefficients: for ``|t| <= ln 2 / 2`` the terms left out are below 2**-57."""


def power_of_two(exponent: F32 | np.float32) -> F32:
    """``2 ** exponent``, exponents clamped to the bounds above: the same bits on every machine.

    One IEEE float64 operation after another, rounded to float32 at the end: the nearest float32 but
    where the power is within about 2**-51 of the middle between two. Exact for integers. Raises
    CalibrationError for a NaN.
    """
    wanted = np.clip(np.asarray(exponent, np.float64), LOWEST_LOG2, HIGHEST_LOG2)
    if np.isnan(wanted).any():
        raise CalibrationError("a learned scale is not a number: training has diverged")
    whole = np.rint(wanted)
    t: F64 = (wanted - whole) * _LN2
    power: F64 = np.zeros_like(t)
    for coefficient in _EXPONENTIAL:
        power = power * t + coefficient
    return np.asarray(np.ldexp(power, whole.astype(np.int32))).astype(np.float32)


class _ScaleOf(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, log2_scale: Tensor) -> Tensor:
        host = log2_scale.detach().to("cpu", torch.float32)
        scale = torch.from_numpy(np.atleast_1d(power_of_two(host.numpy())))
        scale = scale.reshape(log2_scale.shape).to(log2_scale.device)
        ctx.save_for_backward(scale)
        return scale

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (scale,) = ctx.saved_tensors
        return grad * scale * _LN2


def scale_of(log2_scale: Tensor) -> Tensor:
    """``2 ** log2_scale`` (float32, any shape) as float32 on the same device: ``power_of_two``.

    Its gradient is ``scale * ln 2``, also for exponents that were clamped. A GPU is waited for:
    with many scales, one call of ``scales_of`` costs one such wait.
    """
    function: Any = _ScaleOf  # apply has no type
    return function.apply(log2_scale)


def scales_of(log2_scales: Sequence[Tensor]) -> list[Tensor]:
    """``scale_of`` each, in one transfer; all are on one device."""
    if not log2_scales:
        return []
    flat = scale_of(torch.cat([p.reshape(-1) for p in log2_scales]))
    parts = torch.split(flat, [p.numel() for p in log2_scales])
    return [part.reshape(p.shape) for part, p in zip(parts, log2_scales, strict=True)]


def log2_of(scale: Tensor | F32 | float) -> Tensor:
    """What ``scale_of`` inverts, as float32: up to the rounding of the logarithm.

    A scale of 2**e comes back with a relative error of at most ``(1 + |e|) * 2**-24``, and exactly
    where ``e`` is an integer.
    """
    return torch.log2(torch.as_tensor(scale, dtype=torch.float64)).float()


def weight_parameters(
    weight: Tensor, qmin: int, qmax: int, *, axis: int | None = 0, symmetric: bool = True
) -> tuple[Tensor, Tensor]:
    """``(log2_scale, zero_point)`` of least squared error: ``quantize_weights``' search.

    float32 and int32, [channels] or (without axis) [], on the device of the weight. Raises
    CalibrationError if a weight is not finite.
    """
    host: F32 = weight.detach().cpu().float().numpy()
    found = quantize_weights(
        host, qmin, qmax, axis=axis, symmetric=symmetric, method=WeightMethod.MSE
    )
    zero_point = torch.as_tensor(found.zero_point, dtype=torch.int32)
    return log2_of(found.scale).to(weight.device), zero_point.to(weight.device)


def activation_observer(qmin: int, qmax: int, *, symmetric: bool = False) -> Observer:
    """An observer of least squared error for ``activation_range``; feed it NumPy float32."""
    return make_observer("mse", levels=qmax - qmin + 1, symmetric=symmetric)


def observed_parameters(
    observer: Observer, qmin: int, qmax: int, *, symmetric: bool = False, name: str = ""
) -> tuple[Tensor, Tensor]:
    """``(log2_scale, zero_point)``, 0-dimensional float32 and int32, of what an observer has seen.

    Raises CalibrationError, naming the tensor, if that is nothing.
    """
    low, high = observer.range(name)
    parameters = activation_parameters(low, high, qmin, qmax, symmetric=symmetric)
    zero_point = torch.tensor(parameters.zero_point, dtype=torch.int32)
    return log2_of(parameters.scale), zero_point
