"""Pools, reductions, normalisations and resampling."""

from __future__ import annotations

from functools import reduce

import numpy as np
from xdsl.dialects.builtin import f32, i64

from uqfc.dialects import nn
from uqfc.dialects.tensors import int_tuple, shape_of
from uqfc.frontend.uqr.export.graph import IMAGE, Graph, identity
from uqfc.frontend.uqr.export.registry import exporter
from uqfc.frontend.values import UnsupportedUseError

REDUCTIONS = {
    "max": "ReduceMax",
    "mean": "ReduceMean",
    "min": "ReduceMin",
    "prod": "ReduceProd",
    "sum": "ReduceSum",
}
GLOBAL = {"max": "GlobalMaxPool", "mean": "GlobalAveragePool"}


@exporter(nn.MaxPool2dOp, nn.AvgPool2dOp)
def pool(g: Graph, op: nn.MaxPool2dOp | nn.AvgPool2dOp) -> None:
    counts: dict[str, int] = {}
    if isinstance(op, nn.AvgPool2dOp):
        counts["count_include_pad"] = int(bool(op.count_include_pad.value.data))
    result = g.apply(
        op,
        "AveragePool" if counts else "MaxPool",
        [g.get(op.x, IMAGE)],
        kernel_shape=int_tuple(op.kernel),
        strides=int_tuple(op.strides),
        pads=int_tuple(op.padding),
        dilations=int_tuple(op.dilations),
        **counts,
    )
    g.define(op.result, result, IMAGE)


@exporter(nn.ReduceOp)
def reduction(g: Graph, op: nn.ReduceOp) -> None:
    """The order in which elements are added is part of the meaning: the axes must keep theirs."""
    kind, layout = op.kind.data, g.layout_of(op.x)
    axes = [layout.index(axis) for axis in int_tuple(op.axes)]
    if axes != sorted(axes):
        layout, axes = identity(len(layout)), list(int_tuple(op.axes))
    x = g.get(op.x, layout)
    if layout == IMAGE and axes == [2, 3] and kind in GLOBAL:
        g.define(op.result, g.apply(op, GLOBAL[kind], [x]), layout)
        return
    g.define(op.result, g.apply(op, REDUCTIONS[kind], [x, g.integers(axes)], keepdims=1), layout)


@exporter(nn.SoftmaxOp)
def softmax(g: Graph, op: nn.SoftmaxOp) -> None:
    layout = g.layout_of(op.x)
    axis = layout.index(op.axis.value.data)
    g.define(op.result, g.apply(op, "Softmax", [g.get(op.x, layout)], axis=axis), layout)


@exporter(nn.LayerNormOp)
def layer_norm(g: Graph, op: nn.LayerNormOp) -> None:
    inputs = [g.get(v) for v in (op.x, op.scale, op.bias)]
    axis, epsilon = -len(shape_of(op.scale)), op.epsilon.value.data
    result = g.apply(op, "LayerNormalization", inputs, axis=axis, epsilon=epsilon)
    g.define(op.result, result)


@exporter(nn.LrnOp)
def lrn(g: Graph, op: nn.LrnOp) -> None:
    if len(shape_of(op.x)) != 4:
        raise UnsupportedUseError("channels are the last axis of an image of rank 4")
    numbers = {name: getattr(op, name).value.data for name in ("alpha", "beta", "bias")}
    result = g.apply(op, "LRN", [g.get(op.x, IMAGE)], size=op.size.value.data, **numbers)
    g.define(op.result, result, IMAGE)


@exporter(nn.InterpolateOp)
def interpolate(g: Graph, op: nn.InterpolateOp) -> None:
    """One Gather and one product a tap, added in order."""
    indices, weights = g.known.get(op.indices), g.known.get(op.weights)
    if indices is None or weights is None:
        raise UnsupportedUseError("indices and weights must be constants")
    layout = g.layout_of(op.x)
    x, axis = g.get(op.x, layout), layout.index(op.axis.value.data)
    view = [1] * len(layout)
    view[axis] = len(indices.array)
    terms: list[str] = []
    for tap in range(indices.array.shape[1]):
        picks = g.shared("indices", np.ascontiguousarray(indices.array[:, tap]), i64)
        factor = np.ascontiguousarray(weights.array[:, tap]).reshape(view)
        taken = g.apply(op, "Gather", [x, picks], axis=axis)
        terms.append(g.apply(op, "Mul", [taken, g.shared("weights", factor, f32)]))
    g.define(op.result, reduce(lambda a, b: g.apply(op, "Add", [a, b]), terms), layout)
