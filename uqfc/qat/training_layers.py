"""A quantized layer in training: integer sums, then batch norm or the deployed epilogue."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from uqfc.dialects import nn
from uqfc.dialects.tensors import int_tuple, shape_of
from uqfc.numerics import Activation
from uqfc.qat.estimators import Estimator, lsq_gradient_scale
from uqfc.qat.exact import Exact, centred, integers, multiplier
from uqfc.qat.float_ops import activated
from uqfc.qat.fused import Levels, quantize_levels
from uqfc.qat.kernels import Geometry
from uqfc.qat.layers import FOLDABLE, LayerModules, QuantizedWeight, quantized_weight
from uqfc.qat.plan import PlannedLayer
from uqfc.qat.rounding import ApplyActivation, RoundClamp, limits
from uqfc.qat.sums import Backend, Integers, LayerSums
from uqfc.qat.values import Scheme, Value


@dataclass(frozen=True)
class LayerPass:
    """A layer in one forward pass. ``statistics``: its batch norm takes those of the batch."""

    layer: PlannedLayer
    modules: LayerModules
    scales: Tensor
    zero_points: Tensor
    backend: Backend
    estimator: Estimator
    statistics: bool


def layer_value(work: LayerPass, x: Value, residual: Value | None, scheme: Scheme | None) -> Value:
    """The layer's result at a point, or as float32 if there is none."""
    norm = work.modules.batch_norm
    folded = work.modules.folded(learned=not work.statistics)
    x_scale = x.scale
    weight = quantized_weight(
        work.layer, folded, work.scales, work.zero_points, x_scale, work.estimator
    )
    if work.statistics and norm is not None:
        assert folded.factor is not None
        y = normalized(work, x, weight, folded.factor.detach())
        return statistics_value(work, y, residual, scheme)
    return deployed_value(work, x, weight, folded.bias, residual, scheme)


# --- with the statistics of the batch -----------------------------------------------------------


def normalized(work: LayerPass, x: Value, weight: QuantizedWeight, factor: Tensor) -> Tensor:
    """The batch-normalised result: of sums without the factor that weights were folded with."""
    norm = work.modules.batch_norm
    assert norm is not None
    guarded = torch.where(factor.abs() < FOLDABLE, FOLDABLE, factor)
    factors = multiplier(x.scale, weight.scale, over=guarded)
    y = sums(work, x, weight, None, factors, guarded.float())
    if work.modules.bias is not None:
        y = y + work.modules.bias
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
    momentum = norm.momentum
    if momentum is None:
        assert norm.num_batches_tracked is not None
        momentum = 1.0 / float(norm.num_batches_tracked)
    channels_first = y.permute(0, 3, 1, 2) if y.ndim == 4 else y
    z = functional.batch_norm(
        channels_first,
        norm.running_mean,
        norm.running_var,
        norm.weight,
        norm.bias,
        True,
        momentum,
        norm.eps,
    )
    return z.permute(0, 2, 3, 1) if y.ndim == 4 else z


def statistics_value(
    work: LayerPass, y: Tensor, residual: Value | None, scheme: Scheme | None
) -> Value:
    if residual is not None:
        y = y + residual.real
    function = work.layer.op.activation
    if scheme is None:
        return Value(activated(y, function))
    point, gain = scheme.point, lsq_gradient_scale(y[0].numel(), scheme.point.qmax)
    fused = None if function is None else function.data
    levels = Levels(point.qmin, point.qmax, work.estimator, gain, fused)
    return Value(*quantize_levels(y, scheme.scale, scheme.zero_point_tensor, levels), scheme)


# --- as deployed --------------------------------------------------------------------------------


def deployed_value(
    work: LayerPass,
    x: Value,
    weight: QuantizedWeight,
    bias: Tensor | None,
    residual: Value | None,
    scheme: Scheme | None,
) -> Value:
    """The epilogue of the deployed kernel: see ``qnn.Epilogue`` for its three forms."""
    op = work.layer.op
    function = None if op.activation is None else op.activation.data
    curved = function is not None and function.bounds is None
    unit = None if scheme is None or curved else scheme.scale.detach()
    over = 1.0 if unit is None else unit
    factors = multiplier(x.scale, weight.scale, over=over)
    v = sums(work, x, weight, bias, factors, unit)
    if residual is not None:
        v = v + residual_term(residual, unit)
    if scheme is None:
        return Value(v if function is None else activation(v, function))
    if curved and function is not None:
        reciprocal = multiplier(1.0, over=scheme.scale)
        v = activation(v, function) * reciprocal
    clamp = None if curved else function
    real, q = RoundClamp.apply(v, scheme.scale, limits(scheme, clamp, work.estimator, v[0].numel()))
    return Value(real, q, scheme)


def activation(v: Tensor, function: Activation) -> Tensor:
    return ApplyActivation.apply(v, function)


def residual_term(residual: Value, unit: Tensor | None) -> Tensor:
    """The residual as it is added, in units of ``unit``."""
    if unit is None:
        return residual.real
    term = centred(residual).mul_(multiplier(residual.scale, over=unit))
    return Exact.apply(residual.real, term, unit)


# --- sums ---------------------------------------------------------------------------------------


def sums(
    work: LayerPass,
    x: Value,
    weight: QuantizedWeight,
    bias: Tensor | None,
    factors: Tensor,
    unit: Tensor | None,
) -> Tensor:
    """``LayerSums`` of the layer."""
    assert x.scheme is not None
    zero_point = x.scheme.zero_point
    spread = (-1, *[1] * (weight.q.ndim - 1))
    centred_weight = weight.q.to(torch.int16) - weight.zero_point.to(torch.int16).reshape(spread)
    addend = -zero_point * centred_weight.flatten(1).sum(1, dtype=torch.int64)
    if bias is not None:
        step = x.scale.double() * weight.scale.detach().double()
        addend = addend + torch.round(bias.detach().double() / step).long()
    geometry = geometry_of(work.layer, zero_point)
    held = geometry.storage == "u4"
    signed = work.layer.kind.qmin < 0
    shift = weight.zero_point + (8 if signed else 0) if held else torch.zeros_like(addend)
    operands = Integers(
        integers(x),
        centred_weight,
        shift.to(torch.int32),
        addend.to(torch.int32),
        factors.to(torch.float32),
        geometry,
    )
    return LayerSums.apply(x.real, weight.real, bias, unit, operands, work.backend)


def geometry_of(layer: PlannedLayer, zero_point: int) -> Geometry:
    """What the layer's kernel depends on."""
    op, kind = layer.op, layer.kind
    storage = "u4" if kind.storage in ("i4", "u4", "i2") else "s8" if kind.symmetric else "s16"
    shapes = shape_of(op.x), shape_of(op.weight)
    if isinstance(op, nn.LinearOp):
        return Geometry(*shapes, storage, zero_point)
    return Geometry(
        *shapes,
        storage,
        zero_point,
        int_tuple(op.strides),
        int_tuple(op.padding),
        int_tuple(op.dilations),
        op.groups.value.data,
    )
