"""Ops that move elements: axes are counted in the layout of the operand where that is possible."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from xdsl.dialects.builtin import i64
from xdsl.ir import SSAValue

from uqfc.dialects import nn
from uqfc.dialects.quant import STORAGE_ELEMENTS, UniformType
from uqfc.dialects.tensors import Shape, element_of, int_tuple, numpy_dtype, shape_of
from uqfc.frontend.uqr.export.elementwise import common_layout, operand
from uqfc.frontend.uqr.export.graph import IMAGE, Graph, Layout, identity
from uqfc.frontend.uqr.export.registry import exporter

BEYOND = -(2**62)
"""An end of a Slice that goes backwards through the first element."""


def arranged(values: Sequence[int], layout: Layout) -> tuple[int, ...]:
    """One value per axis in the order of the axes in a layout."""
    return tuple(values[axis] for axis in layout)


def keeps_order(shape: Shape, layout: Layout) -> bool:
    """Whether a tensor in this layout holds the elements in the same order."""
    order = [axis for axis in layout if shape[axis] != 1]
    return order == sorted(order)


@exporter(nn.ReshapeOp)
def reshape(g: Graph, op: nn.ReshapeOp) -> None:
    """Axes of 1 make no difference, so that [N, 1, 1, C] is as good as an image [N, C, 1, 1]."""
    own, shape = g.layout_of(op.x), shape_of(op.result)
    x = g.get(op.x, own if keeps_order(shape_of(op.x), own) else None)
    layout = IMAGE if len(shape) == 4 and keeps_order(shape, IMAGE) else identity(len(shape))
    target = g.integers(arranged(shape, layout))
    g.define(op.result, g.apply(op, "Reshape", [x, target]), layout)


@exporter(nn.TransposeOp)
def transpose(g: Graph, op: nn.TransposeOp) -> None:
    """Nothing at all if the tensor is the result in another layout that values may have."""
    permutation, own = int_tuple(op.permutation), g.layout_of(op.x)
    layout = tuple(permutation.index(axis) for axis in own)
    x = g.get(op.x, own)
    if layout in (identity(len(own)), IMAGE):
        g.define(op.result, x, layout)
        return
    moved = [own.index(axis) for axis in permutation]
    g.define(op.result, g.apply(op, "Transpose", [x], perm=moved))


@exporter(nn.ConcatOp)
def concat(g: Graph, op: nn.ConcatOp) -> None:
    layout = common_layout(g, op.inputs, len(shape_of(op.result)))
    inputs = [g.get(v, layout) for v in op.inputs]
    axis = layout.index(op.axis.value.data)
    g.define(op.result, g.apply(op, "Concat", inputs, axis=axis), layout)


@exporter(nn.SliceOp)
def slice_(g: Graph, op: nn.SliceOp) -> None:
    layout = g.layout_of(op.x)
    starts, steps = int_tuple(op.starts), int_tuple(op.steps)
    ends = [
        end if (end := start + step * size) >= 0 else BEYOND
        for start, step, size in zip(starts, steps, shape_of(op.result), strict=True)
    ]
    axes = g.integers(identity(len(layout)))
    bounds = [g.integers(arranged(v, layout)) for v in (starts, ends)]
    inputs = [g.get(op.x, layout), *bounds, axes, g.integers(arranged(steps, layout))]
    g.define(op.result, g.apply(op, "Slice", inputs), layout)


@exporter(nn.PadOp)
def pad(g: Graph, op: nn.PadOp) -> None:
    layout = g.layout_of(op.x)
    low, high = (arranged(int_tuple(v), layout) for v in (op.low, op.high))
    inputs = [g.get(op.x, layout), g.integers((*low, *high))]
    if op.mode.data == "constant":
        element = element_of(op.x)
        if isinstance(element, UniformType):
            element = STORAGE_ELEMENTS[element.data.storage]
        value = np.asarray(op.value.value.data, numpy_dtype(element))
        inputs.append(g.shared("padding", value, element))
    g.define(op.result, g.apply(op, "Pad", inputs, mode=op.mode.data), layout)


@exporter(nn.BroadcastOp)
def broadcast(g: Graph, op: nn.BroadcastOp) -> None:
    shape = shape_of(op.result)
    layout = common_layout(g, [op.x], len(shape))
    x = operand(g, op, op.x, layout)
    target = g.integers(arranged(shape, layout))
    g.define(op.result, g.apply(op, "Expand", [x, target]), layout)


@exporter(nn.GatherOp)
def gather(g: Graph, op: nn.GatherOp) -> None:
    """The layout stays if one axis takes the place of one."""
    keeps = len(shape_of(op.indices)) == 1
    layout = g.layout_of(op.x) if keeps else identity(len(shape_of(op.x)))
    size = shape_of(op.x)[op.axis.value.data]
    inputs = [g.get(op.x, layout), indices_of(g, op.indices, size)]
    axis = layout.index(op.axis.value.data)
    result = g.apply(op, "Gather", inputs, axis=axis)
    g.define(op.result, result, layout if keeps else None)


def indices_of(g: Graph, value: SSAValue, size: int) -> str:
    """Constant indices count from the front and are within the axis, as ONNX wants them."""
    known = g.known.get(value)
    if known is None:
        return g.get(value)
    wrapped = np.where(known.array < 0, known.array + size, known.array)
    return g.shared("indices", np.clip(wrapped, 0, size - 1).astype(np.int64), i64)
