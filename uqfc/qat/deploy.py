"""From what was trained to the quantized network that is deployed."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation
from xdsl.rewriter import Rewriter

from uqfc.dialects import nn as ops
from uqfc.dialects.quant import (
    STORAGE_ELEMENTS,
    DcastOp,
    ObserveOp,
    QcastOp,
    QuantParams,
    ScastOp,
    UniformType,
)
from uqfc.dialects.tensors import Array, numpy_dtype
from uqfc.numerics import F32
from uqfc.passes.support.quantizable import LAYERS
from uqfc.passes.support.rewriting import with_operand_list
from uqfc.qat.layers import LayerModules, quantized_weight
from uqfc.qat.plan import Plan, PlannedLayer
from uqfc.qat.state import Quantization, Scales


def quantized_module(plan: Plan, model: nn.Module, state: Quantization) -> ModuleOp:
    """The plan's network with present weights, scales and zero points: ``nn`` on ``quant`` casts.

    Running statistics are folded. The plan is not changed.
    """
    module = plan.module.clone()
    with torch.no_grad():
        scales = state.scales()
        for op in list(module.walk()):
            if isinstance(op, LAYERS):
                replace_layer(op, plan, model, state, scales)
            elif isinstance(op, ObserveOp):
                replace_point(op, plan, state, scales)
    for constant in [op for op in module.walk() if isinstance(op, ops.ConstantOp)]:
        if constant.result.first_use is None:
            Rewriter.erase_op(constant)
    return module


def replace_point(op: ObserveOp, plan: Plan, state: Quantization, scales: Scales) -> None:
    point = plan.points[op.point.data]
    scale = float(scales.activations[point.index])
    zero_point = state.zero_point_of(point)
    params = QuantParams.of("u8", scale, zero_point, qmin=point.qmin, qmax=point.qmax)
    cast = QcastOp(op.x, params)
    Rewriter.replace_op(op, [cast, DcastOp(cast)])


def replace_layer(
    op: ops.Layer, plan: Plan, model: nn.Module, state: Quantization, scales: Scales
) -> None:
    origin = plan.origins.get(op.layer)
    if origin is None:
        return
    folded = LayerModules(model, origin).folded(learned=False)
    planned = plan.layers.get(op.layer)
    added: list[Operation] = []
    if planned is None:
        weight: Operation = ops.ConstantOp(host(folded.weight))
        added.append(weight)
    else:
        x_scale = scales.activations[plan.point_of(planned).index]
        found = quantized_weight(
            planned,
            folded,
            scales.weights,
            state.weight_zero_point,
            x_scale,
            plan.options.estimator,
        )
        parts = found.scale[: planned.count], found.zero_point[: planned.count]
        params = weight_params(planned, *(host(part) for part in parts))
        element = STORAGE_ELEMENTS[params.storage]
        stored = host(found.q).astype(numpy_dtype(element))
        constant = ops.ConstantOp(stored, element)
        cast = ScastOp(constant, UniformType(params))
        weight = DcastOp(cast)
        added += [constant, cast, weight]
    bias = None if folded.bias is None else ops.ConstantOp(host(folded.bias))
    added += [] if bias is None else [bias]
    Rewriter.replace_op(op, [*added, with_operand_list(op, weight=weight, bias=bias)])


def weight_params(layer: PlannedLayer, scale: F32, zero_point: Array) -> QuantParams:
    kind, axis = layer.kind, 0 if layer.options.per_channel else None
    return QuantParams.of(
        kind.storage, scale, zero_point, axis=axis, qmin=kind.qmin, qmax=kind.qmax
    )


def host(tensor: Tensor) -> Array:
    """A dense array of the tensor's values."""
    return np.ascontiguousarray(tensor.detach().cpu().numpy())
