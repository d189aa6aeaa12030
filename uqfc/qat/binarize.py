"""Binary weights with a gradient: ``-scale`` where the weight is below zero, else ``scale``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from uqfc.qat.estimators import (
    POLYNOMIAL_COEFFICIENT,
    Estimator,
    lsq_gradient_scale,
    pass_inside,
    sum_products,
)

_REACH = {Estimator.LSQ: 1.0, Estimator.CLIPPED: 2.0, Estimator.POLYNOMIAL: 2.0}
"""Scales from zero up to which a weight gets a gradient. The levels are two scales apart, so that
half a step beyond them is two scales; ``lsq`` ends at the levels."""


def binarize(
    weight: Tensor,
    scale: Tensor,
    estimator: Estimator | str = Estimator.CLIPPED,
    *,
    axis: int | None = None,
    gradient_scale: float | None = None,
) -> tuple[Tensor, Tensor]:
    """``(real, q)``: ``q * scale`` (float32) and ``q`` (int8): -1 below zero, otherwise +1.

    ``weight``: float32; ``scale``: float32, one element or one per channel of ``axis``.

    ``real`` is differentiable once. For the weight, estimators are as for ``quantize``, with levels
    -1 and 1 two steps apart: 1 everywhere (identity), 1 below 2 scales (clipped), times
    ``1 + c·(v - q)`` with ``v = weight / scale`` (polynomial; ``1 - c`` to ``1 + c``), 1 below one
    scale (lsq). For the scale the gradient is exact: ``q``, as no ``q`` depends on the scale; times
    ``gradient_scale``, by default 1, and for lsq ``lsq_gradient_scale``.
    """
    estimator = Estimator(estimator)
    if gradient_scale is None:
        shared = weight.numel() // max(scale.numel(), 1)
        gradient_scale = lsq_gradient_scale(shared, 1) if estimator == Estimator.LSQ else 1.0
    function: Any = _Binarize  # apply has no type
    return function.apply(weight, scale, estimator, axis, gradient_scale)


def _shaped(weight: Tensor, scale: Tensor, axis: int | None) -> Tensor:
    if axis is None:
        return scale.reshape(())
    return scale.reshape([-1 if i == axis % weight.ndim else 1 for i in range(weight.ndim)])


class _Binarize(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        weight: Tensor,
        scale: Tensor,
        estimator: Estimator,
        axis: int | None,
        gradient_scale: float,
    ) -> tuple[Tensor, Tensor]:
        q = torch.lt(weight, 0.0).view(torch.int8).mul_(-2).add_(1)
        real = q * _shaped(weight, scale, axis)
        ctx.mark_non_differentiable(q)
        ctx.set_materialize_grads(False)
        ctx.estimator, ctx.axis, ctx.gradient_scale = estimator, axis, gradient_scale
        ctx.save_for_backward(weight, scale, q)
        return real, q

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
        if grad is None:
            return (None,) * 5
        weight, scale, q = ctx.saved_tensors
        scale_grad = None
        if ctx.needs_input_grad[1]:
            sums = sum_products(grad, q.to(grad.dtype), ctx.axis)
            scale_grad = sums.reshape_as(scale) * ctx.gradient_scale
        if ctx.estimator == Estimator.IDENTITY:
            return grad, scale_grad, None, None, None
        step = _shaped(weight, scale, ctx.axis)
        reach = _REACH[ctx.estimator] * step
        passed = pass_inside(grad, weight, -reach, reach)
        if ctx.estimator == Estimator.POLYNOMIAL:
            error = torch.div(weight, step).sub_(q).clamp_(-1.0, 1.0)
            passed.mul_(error.mul_(POLYNOMIAL_COEFFICIENT).add_(1.0))
        return passed, scale_grad, None, None, None
