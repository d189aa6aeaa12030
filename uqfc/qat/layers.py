"""A layer's parameters on their way to integers: batch norm folded, quantized, with its bias."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage] # the base

from uqfc.frontend.torch import LayerOrigin
from uqfc.passes.quantize_weights import LARGEST_BIAS
from uqfc.qat.binarize import binarize
from uqfc.qat.estimators import Estimator, lsq_gradient_scale
from uqfc.qat.fused import Levels, quantize_levels
from uqfc.qat.plan import PlannedLayer
from uqfc.qat.weights import ESTIMATORS

FOLDABLE = 2.0**-20
"""A batch norm's factor nearer to zero is taken for this: dividing by it would overflow."""


class Folded(NamedTuple):
    """Weight [O, …] and bias [O] with the batch norm in them, and the factor [O] of the fold."""

    weight: Tensor
    bias: Tensor | None
    factor: Tensor | None


@dataclass(frozen=True)
class LayerModules:
    """Where a layer's parameters are in the user's module."""

    model: nn.Module
    origin: LayerOrigin

    @property
    def weight(self) -> Tensor:
        """As the IR has it: [O, kh, kw, C / groups] or [O, K]."""
        return in_ir_order(self.model.get_parameter(self.origin.weight))

    @property
    def bias(self) -> Tensor | None:
        name = self.origin.bias
        return None if name is None else self.model.get_parameter(name)

    @property
    def batch_norm(self) -> _BatchNorm | None:
        path = self.origin.batch_norm
        if path is None:
            return None
        found = self.model.get_submodule(path)
        assert isinstance(found, _BatchNorm)
        return found

    def folded(self, *, learned: bool) -> Folded:
        """With running statistics. ``learned``: gradients reach the batch norm's parameters.

        Factor and bias are computed in float64 and rounded to float32 once.
        """
        norm = self.batch_norm
        if norm is None:
            return Folded(self.weight, self.bias, None)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        deviation = torch.sqrt(norm.running_var.double() + norm.eps)
        scale, offset = cast(Any, norm.weight), cast(Any, norm.bias)  # None without affine
        gamma = torch.ones_like(deviation) if scale is None else scale.double()
        factor = gamma / deviation
        shift = -norm.running_mean.double() * factor
        if offset is not None:
            shift = shift + offset.double()
        if self.bias is not None:
            shift = shift + self.bias.double() * factor
        if not learned:
            factor, shift = factor.detach(), shift.detach()
        factor = factor.float()
        weight = self.weight
        weight = weight * factor.reshape(-1, *[1] * (weight.ndim - 1))
        return Folded(weight, shift.float(), factor)


def in_ir_order(weight: Tensor) -> Tensor:
    """A torch weight [O, C, kh, kw] as [O, kh, kw, C]; of a one-dimensional one, kh is 1."""
    if weight.ndim == 3:
        weight = weight.unsqueeze(2)
    return weight.permute(0, 2, 3, 1).contiguous() if weight.ndim == 4 else weight


class QuantizedWeight(NamedTuple):
    """``real`` float32 with gradients; ``q`` its integers; scale and zero point [O]."""

    real: Tensor
    q: Tensor
    scale: Tensor
    zero_point: Tensor


def quantized_weight(
    layer: PlannedLayer,
    folded: Folded,
    scales: Tensor,
    zero_points: Tensor,
    x_scale: Tensor,
    estimator: Estimator,
) -> QuantizedWeight:
    """Quantize folded weights with the layer's part of all ``scales`` and ``zero_points``.

    Scales are not so small that the bias would leave the int32 accumulator.
    """
    part = slice(layer.start, layer.start + layer.count)
    scale, zero_point = scales[part], zero_points[part]
    if folded.bias is not None:
        magnitude = folded.bias.detach().abs().double()
        magnitude = magnitude if layer.count > 1 else magnitude.max().reshape(1)
        least = (magnitude / (x_scale.detach().double() * LARGEST_BIAS)).float()
        scale = torch.maximum(scale, least)
    if estimator == Estimator.LSQ:
        estimator = ESTIMATORS[layer.decision.chosen]
    kind, shared = layer.kind, folded.weight.numel() // layer.count
    weight, gain = folded.weight, lsq_gradient_scale(shared, kind.qmax)
    if layer.decision.chosen == "binary":
        axis = 0 if layer.options.per_channel else None
        real, q = binarize(weight, scale, estimator, axis=axis, gradient_scale=gain)
    else:
        levels = Levels(kind.qmin, kind.qmax, estimator, gain)
        real, q = quantize_levels(weight, scale, zero_point, levels)
    channels = len(folded.weight)
    return QuantizedWeight(real, q, scale.expand(channels), zero_point.expand(channels))
