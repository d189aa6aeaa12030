"""Quantization with a gradient: forward is ``uqfc.numerics`` to the bit, backward an estimator.

With ``v = x / scale``, ``low = qmin - zero_point`` and ``high = qmax - zero_point``, forward is
``real = rne(clamp(v, low, high)) * scale``, whose derivative is zero almost everywhere. Backward
takes another function's instead, which an ``Estimator`` names; it never changes a forward value.

The polynomial estimator. Let ``f(v) = v + c·e(v)²``, where ``e(v) = round(v) - v``. As ``e²`` is
the squared distance to the nearest integer, ``f`` is continuous, meets every integer (``f(k) = k``)
and has, as ``de/dv = -1`` between two thresholds, the derivative
``f'(v) = 1 - 2c·e(v) = 1 + 2c·(v - round(v))``. From ``|e| ≤ 1/2`` follows ``1 - c ≤ f' ≤ 1 + c``:
bounded, positive for ``c < 1``, and 1 on average over each step. As an expression that autograd
understands it is ``round(v) + (f(v) - f(v).detach())``: the value of the first term alone, the
derivative of the second. (Adding ``c·e²`` without ``detach`` would change the value.) Outside
the range it is zero, as for ``clipped``.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

POLYNOMIAL_COEFFICIENT = 0.1
"""``c`` of the polynomial estimator: the gradient varies by up to 10 per cent."""

ROUNDER = 1.5 * 2.0**23
"""Added to a float32 in ±2**22, leaves its integer (half to even) in the low bits, as two's
complement: in this binade floats are the integers. The low byte of the rounder itself is 0."""


class Estimator(StrEnum):
    """What stands for the derivative ``d real / d x`` of quantization.

    ``identity``: 1. ``clipped``: 1 where rounding alone reaches the result (``v`` within half a
    step of the range, ends excluded), else 0. ``polynomial``: ``1 + 2c·(v - round(v))`` there, else
    0. ``lsq``: 1 where ``low < v < high``, else 0, as S. K. Esser et al., "Learned Step Size
    Quantization" (ICLR 2020, arXiv:1902.08153), equation 5.

    For the scale, all use that paper's equation 3: ``d real / d scale`` is ``round(v) - v`` inside,
    ``low`` below and ``high`` above, where inside is meant as for ``x`` (identity: as clipped).
    """

    IDENTITY = "identity"
    CLIPPED = "clipped"
    POLYNOMIAL = "polynomial"
    LSQ = "lsq"


def quantize(
    x: Tensor,
    scale: Tensor,
    zero_point: Tensor,
    qmin: int,
    qmax: int,
    estimator: Estimator | str = Estimator.CLIPPED,
    *,
    axis: int | None = None,
    gradient_scale: float | None = None,
) -> tuple[Tensor, Tensor]:
    """``(real, q)``: ``numerics.dequantize`` of ``numerics.quantize``, and the integers.

    ``x``: float32 of any shape and memory layout, which the results share. ``scale`` float32 and
    ``zero_point`` int32: one element each, or (``axis`` given) one per channel of that axis; all on
    one device. ``real`` is float32 and differentiable once, with respect to ``x`` and ``scale``;
    ``q`` is uint8 where ``qmin`` is not negative, else int8, and not differentiable.

    The gradient of the scale is multiplied by ``gradient_scale``: by default 1, and for ``lsq``
    ``lsq_gradient_scale`` of the elements that share a scale. It is NaN if an ``x`` is not finite;
    the gradient of a NaN is unspecified.

    Raises TypeError for another dtype or device, ValueError for a range that has no storage and
    for a wrong number of parameters.
    """
    estimator = Estimator(estimator)
    _check(x, scale, zero_point, axis)
    storage_dtype(qmin, qmax)
    if gradient_scale is None:
        shared = x.numel() // max(scale.numel(), 1)
        gradient_scale = lsq_gradient_scale(shared, qmax) if estimator == Estimator.LSQ else 1.0
    function: Any = _Quantize  # apply has no type
    return function.apply(x, scale, zero_point, (qmin, qmax), estimator, axis, gradient_scale)


def lsq_gradient_scale(elements: int, qmax: int) -> float:
    """``1 / sqrt(elements * qmax)``: Esser et al., section 2.2.

    ``elements`` that share the scale: weights of a layer (or channel), or features of a layer's
    input, without the batch.
    """
    return 1.0 / math.sqrt(max(elements, 1) * max(qmax, 1))


def storage_dtype(qmin: int, qmax: int) -> torch.dtype:
    """The dtype of the integers; raises ValueError if none of 8 bits holds the range."""
    if 0 <= qmin < qmax <= 255:
        return torch.uint8
    if -128 <= qmin < qmax <= 127:
        return torch.int8
    raise ValueError(f"range {qmin}:{qmax}; accepted: within 0:255 or -128:127, and not empty")


def _check(x: Tensor, scale: Tensor, zero_point: Tensor, axis: int | None) -> None:
    given = (x.dtype, scale.dtype, zero_point.dtype)
    if given != (torch.float32, torch.float32, torch.int32):
        raise TypeError(
            f"x, scale and zero_point are {given}; accepted: float32, float32 and int32"
        )
    # A scale in host memory would make CUDA multiply by its reciprocal: other bits.
    if not x.device == scale.device == zero_point.device:
        raise TypeError(
            f"x is on {x.device}, scale on {scale.device}, zero_point on {zero_point.device}; "
            "accepted: one device"
        )
    channels = 1 if axis is None else x.shape[axis]
    if scale.numel() != channels or zero_point.numel() not in (1, channels):
        raise ValueError(
            f"{scale.numel()} scales and {zero_point.numel()} zero points for {channels} channel(s)"
        )


def broadcast_parameters(
    x: Tensor, scale: Tensor, zero_point: Tensor, axis: int | None
) -> list[Tensor]:
    """Scale and zero point (as float32), each in a shape that broadcasts against ``x``."""
    if axis is None:
        return [scale.reshape(()), zero_point.reshape(()).float()]
    shape = [1] * x.ndim
    shape[axis] = x.shape[axis]
    return [p.reshape(shape if p.numel() > 1 else ()) for p in (scale, zero_point.float())]


class _Quantize(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        scale: Tensor,
        zero_point: Tensor,
        levels: tuple[int, int],
        estimator: Estimator,
        axis: int | None,
        gradient_scale: float,
    ) -> tuple[Tensor, Tensor]:
        qmin, qmax = levels
        step, zero = broadcast_parameters(x, scale, zero_point, axis)
        # One new tensor, in which all happens: memory is what this costs. The bounds are tensors
        # lest a GPU must be waited for; minimum and maximum are faster with them than clamp.
        real = torch.div(x, step)
        real.nan_to_num_(0.0)
        torch.maximum(real, qmin - zero, out=real)
        torch.minimum(real, qmax - zero, out=real)
        real.add_(ROUNDER)
        storage = storage_dtype(qmin, qmax)
        q = real.view(torch.int32).to(storage).add_(zero.to(storage))
        real.sub_(ROUNDER).mul_(step)
        ctx.mark_non_differentiable(q)
        ctx.set_materialize_grads(False)
        ctx.levels, ctx.estimator, ctx.axis = levels, estimator, axis
        ctx.gradient_scale = gradient_scale
        learned = ctx.needs_input_grad[1]
        if learned or estimator != Estimator.IDENTITY:
            kept = real if learned or estimator == Estimator.POLYNOMIAL else None
            ctx.save_for_backward(x, scale, zero_point, kept)
        return real, q

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
        nothing = (None,) * 5
        learned, estimator = ctx.needs_input_grad[1], ctx.estimator
        if grad is None or not (learned or estimator != Estimator.IDENTITY):
            return grad, None, *nothing
        x, scale, zero_point, real = ctx.saved_tensors
        step, zero = broadcast_parameters(x, scale, zero_point, ctx.axis)
        margin = 0.0 if estimator == Estimator.LSQ else 0.5
        low, high = (
            (bound - zero) * step for bound in (ctx.levels[0] - margin, ctx.levels[1] + margin)
        )
        inside = pass_inside(grad, x, low, high)
        if real is None:
            return inside, None, *nothing
        error = x - real
        scale_grad = None
        if learned:
            saturated = grad - inside
            sums = sum_products(saturated, real, ctx.axis) - sum_products(inside, error, ctx.axis)
            scale_grad = (sums.reshape_as(scale) / scale).mul_(ctx.gradient_scale)
        if estimator == Estimator.POLYNOMIAL:
            inside.mul_(polynomial_factor(error.div_(step)))
        return grad if estimator == Estimator.IDENTITY else inside, scale_grad, *nothing


def polynomial_factor(error: Tensor) -> Tensor:
    """``f'(v)`` of the polynomial estimator, from ``v - round(v)``, which is overwritten."""
    # |v - round(v)| <= 1/2 up to rounding, and outside, where the gradient is zero, not.
    return error.clamp_(-0.5, 0.5).mul_(2 * POLYNOMIAL_COEFFICIENT).add_(1.0)


def pass_inside(grad: Tensor, x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """``grad`` where ``low < x < high``, else 0."""
    if low.ndim == 0 and x.device.type == "cpu":
        # One pass; reading the bounds costs nothing where there is no device to wait for.
        return torch.ops.aten.hardtanh_backward(grad, x, low.item(), high.item())
    return grad * (x > low).logical_and_(x < high)


def sum_products(a: Tensor, b: Tensor, axis: int | None) -> Tensor:
    """``sum(a * b)``, over all axes or all but one."""
    if axis is not None:
        return (a * b).movedim(axis, 0).reshape(a.shape[axis], -1).sum(dim=1)
    # In the order in memory, if it is one of a permutation, a dot product needs no copy.
    order = sorted(range(a.ndim), key=a.stride, reverse=True)
    return torch.dot(a.permute(order).reshape(-1), b.permute(order).reshape(-1))
