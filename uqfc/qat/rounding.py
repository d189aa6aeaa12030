"""The end of an integer op: activation, rounding and clamping, as in the epilogue of a kernel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from uqfc.numerics import ACTIVATIONS, Activation, Vec, quantize
from uqfc.qat.estimators import ROUNDER, Estimator, lsq_gradient_scale, polynomial_factor
from uqfc.qat.values import Scheme


class Arithmetic:
    """The part of ``numerics.Arithmetic`` that activations use, on float32 tensors.

    Bits are those of the definition, but for the sign of a zero, which no rounding sees.
    """

    def maximum(self, a: Vec, b: Vec | float) -> Vec:
        return torch.clamp_min(a, b)

    def minimum(self, a: Vec, b: Vec | float) -> Vec:
        return torch.clamp_max(a, b)

    def select_less(self, a: Vec, b: Vec | float, then: Vec | float, other: Vec | float) -> Vec:
        return torch.where(a < b, then, other)


ARITHMETIC: Any = Arithmetic()


class ApplyActivation(torch.autograd.Function):
    """``numerics.ACTIVATIONS`` on float32, to the bit, with their derivatives."""

    @staticmethod
    def forward(ctx: Any, v: Tensor, activation: Activation) -> Tensor:
        ctx.save_for_backward(v)
        ctx.activation = activation
        return ACTIVATIONS[activation.name](ARITHMETIC, v, *activation.params)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (v,) = ctx.saved_tensors
        return derivative(ctx.activation, v, gradients[0]), None


def derivative(activation: Activation, v: Tensor, g: Tensor) -> Tensor:
    """``g`` times the activation's derivative at ``v``; 0 at its kinks from below and above."""
    match activation.name, activation.params:
        case "relu", ():
            return torch.ops.aten.threshold_backward(g, v, 0)
        case "clip", (low, high):
            return torch.ops.aten.hardtanh_backward(g, v, low, high)
        case "hard_swish", ():
            return torch.ops.aten.hardswish_backward(g, v)
        case "hard_sigmoid", (alpha, beta):
            inside = v * alpha + beta
            return torch.where((inside > 0) & (inside < 1), g * alpha, 0.0)
        case "leaky_relu", (alpha,):
            return torch.ops.aten.leaky_relu_backward(g, v, alpha, False)
        case name, _:
            raise ValueError(f"activation {name} has no derivative here")


@dataclass(frozen=True)
class Rounding:
    """``q = zero_point + rne(clamp(v, low, high))``, which stands for ``(q - zero_point) * scale``.

    ``ends_below``, ``ends_above``: a fused clamp, not the type, ends the range there. It does so at
    a real number, which does not move with the scale, and beyond it there is no gradient.
    """

    zero_point: int
    low: int
    high: int
    ends_below: bool
    ends_above: bool
    estimator: Estimator
    gradient_scale: float


def limits(
    scheme: Scheme, clamp: Activation | None, estimator: Estimator, elements: int
) -> Rounding:
    """How a point rounds, after a fused clamp; ``elements`` of one image share the scale."""
    point, zero = scheme.point, scheme.zero_point
    qmin, qmax = point.qmin, point.qmax
    bounds, below, above = None if clamp is None else clamp.bounds, False, False
    if bounds is not None:
        ends = np.asarray([min(bounds), bounds[1]], np.float32)
        scale = np.asarray(scheme.scale.item(), np.float32)
        below, above = ends[0] / scale >= qmin - zero, ends[1] / scale <= qmax - zero
        qmin, qmax = map(int, quantize(ends, scale, np.asarray(zero, np.int32), qmin, qmax))
    factor = lsq_gradient_scale(elements, point.qmax)
    return Rounding(zero, qmin - zero, qmax - zero, bool(below), bool(above), estimator, factor)


class RoundClamp(torch.autograd.Function):
    """``(real, q)`` of float32 ``v`` in units of ``scale``; q is uint8 and has no gradient.

    Gradients are those of ``estimators.quantize`` after the fused clamp, seen from ``v`` instead of
    ``v * scale``.
    """

    @staticmethod
    def forward(ctx: Any, v: Tensor, scale: Tensor, rounding: Rounding) -> tuple[Tensor, Tensor]:
        real = v.clamp(rounding.low, rounding.high)
        real.add_(ROUNDER)
        q = real.view(torch.int32).to(torch.uint8).add_(rounding.zero_point)
        real.sub_(ROUNDER).mul_(scale)
        ctx.mark_non_differentiable(q)
        ctx.set_materialize_grads(False)
        ctx.rounding = rounding
        if any(ctx.needs_input_grad):
            ctx.save_for_backward(v, scale, real if needs_real(ctx) else None)
        return real, q

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        g = gradients[0]
        if g is None or not any(ctx.needs_input_grad):
            return None, None, None
        v, scale, real = ctx.saved_tensors
        r: Rounding = ctx.rounding
        margin = 0.0 if r.estimator == Estimator.LSQ else 0.5
        low = r.low - (0.0 if r.ends_below else margin)
        high = r.high + (0.0 if r.ends_above else margin)
        inside = torch.ops.aten.hardtanh_backward(g, v, low, high)
        scale_gradient = None
        if ctx.needs_input_grad[1]:
            # A range that ends at zero (ReLU) needs no mask: the results there are zero.
            ends = r.ends_below and r.low != 0, r.ends_above
            free = within_clamp(g, v, inside, r, *ends)
            total = dot(free, real) / scale - dot(inside, v)
            scale_gradient = (total * r.gradient_scale).reshape_as(scale)
        kept = inside
        if r.estimator == Estimator.IDENTITY:
            kept = within_clamp(g, v, inside, r, r.ends_below, r.ends_above)
        elif r.estimator == Estimator.POLYNOMIAL:
            kept = inside * polynomial_factor(v - real / scale)
        return kept * scale, scale_gradient, None


def within_clamp(
    g: Tensor, v: Tensor, inside: Tensor, rounding: Rounding, below: bool, above: bool
) -> Tensor:
    """``g``, but ``inside`` (the same, or zero beyond) in the half whose end is a clamp's."""
    match below, above:
        case False, False:
            return g
        case True, True:
            return inside
        case _:
            middle = (rounding.low + rounding.high) / 2
            return torch.where(v < middle if below else v > middle, inside, g)


def needs_real(ctx: Any) -> bool:
    return ctx.needs_input_grad[1] or ctx.rounding.estimator == Estimator.POLYNOMIAL


def dot(a: Tensor, b: Tensor) -> Tensor:
    """``sum(a * b)`` of tensors with one memory layout."""
    return torch.dot(a.reshape(-1), b.reshape(-1))
