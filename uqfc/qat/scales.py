"""Learned scales: parameters are base-2 logarithms, so that a step is relative for every optimizer
and a scale stays positive.

Where scales start: of weights ``uqfc.qat.weights.initial_parameters``; of activations
``uqfc.calibration.activation_parameters`` of what an observer (``make_observer("mse", …)``) saw.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from uqfc.errors import CalibrationError
from uqfc.numerics import F32, F64

LOWEST_LOG2, HIGHEST_LOG2 = -64.0, 126.0
"""Scales are not outside of this: what ``uqfc.calibration`` and ``quantize-weights`` accept."""

STEEPEST = 1.0
"""Bound of a balanced gradient: a step of SGD changes a logarithm by its learning rate at most."""

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
    def forward(ctx: Any, log2_scale: Tensor, balanced: bool) -> Tensor:
        host = log2_scale.detach().to("cpu", torch.float32)
        scale = torch.from_numpy(np.atleast_1d(power_of_two(host.numpy())))
        scale = scale.reshape(log2_scale.shape).to(log2_scale.device)
        ctx.save_for_backward(scale)
        ctx.balanced = balanced
        return scale

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (scale,) = ctx.saved_tensors
        if ctx.balanced:
            return torch.div(grad, scale * _LN2).clamp_(-STEEPEST, STEEPEST), None
        return grad * (scale * _LN2), None


def scale_of(log2_scale: Tensor, *, balanced: bool = False) -> Tensor:
    """``2 ** log2_scale`` (float32, any shape) as float32 on the same device: ``power_of_two``.

    Its gradient is ``scale * ln 2``, also for exponents that were clamped. ``balanced`` divides by
    that instead of multiplying (a diagonal preconditioner, ``(scale * ln 2)**-2``): a step of SGD
    then changes the scale by the share of it that gradient descent on the scale itself would, which
    is what the gradient scale of LSQ is made for. The true gradient is smaller by the square of the
    scale: without an optimizer that normalizes, small scales would hardly learn. And it is clamped
    to ``±STEEPEST``: where many values saturate alike, one step could leap beyond any use.

    A GPU is waited for: many scales are best kept in one tensor.
    """
    function: Any = _ScaleOf  # apply has no type
    return function.apply(log2_scale, balanced)


def log2_of(scale: Tensor | F32 | float) -> Tensor:
    """What ``scale_of`` inverts, as float32: up to the rounding of the logarithm.

    A scale of 2**e comes back with a relative error of at most ``(1 + |e|) * 2**-24``, and exactly
    where ``e`` is an integer.
    """
    return torch.log2(torch.as_tensor(scale, dtype=torch.float64)).float()


class LearnedScale(nn.Module):
    """Scales as ``2 ** (initial + change)``: only the change is a parameter, and starts at zero.

    Weight decay, which optimizers apply to every parameter, then pulls a scale to where it started
    instead of to 1. ``learned`` false: the change stays as it is. ``balanced`` as in ``scale_of``.
    """

    initial: Tensor

    def __init__(
        self, scale: Tensor | F32 | float, *, learned: bool = True, balanced: bool = True
    ) -> None:
        super().__init__()
        self.balanced = balanced
        self.register_buffer("initial", log2_of(scale))
        self.change = nn.Parameter(torch.zeros_like(self.initial), learned)

    @torch.no_grad()
    def reset(self, scale: Tensor | F32 | float) -> None:
        """Start again, from this scale of the same shape."""
        self.initial.copy_(log2_of(scale))
        self.change.zero_()

    def log2(self) -> Tensor:
        """The logarithm."""
        return self.initial + self.change

    def forward(self) -> Tensor:
        """The scale, float32, with a gradient to the change."""
        return scale_of(self.log2(), balanced=self.balanced)
