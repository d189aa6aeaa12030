"""Reductions over axes, softmax and its logarithm."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import numpy as np
from xdsl.dialects.builtin import f32, i64

from uqfc.dialects import nn
from uqfc.frontend.builder import Builder
from uqfc.frontend.node import Node
from uqfc.frontend.onnx_ops.registry import converter
from uqfc.frontend.values import (
    UnsupportedUseError,
    Value,
    constant,
    dims,
    kind,
    rank,
    wrap_axes,
    wrap_axis,
)

Compute = Callable[[Builder, Value, Sequence[int]], Value]

MAX_EXACT_POSITION = 2**24
"""Positions are found in float32."""


def plain(reduction: str) -> Compute:
    return lambda b, x, axes: b.reduce(reduction, x, axes)


def mean(b: Builder, x: Value, axes: Sequence[int]) -> Value:
    if kind(x) != f32:
        raise UnsupportedUseError(f"elements {kind(x)}: expected floats")
    return b.reduce("mean", x, axes)


def l1(b: Builder, x: Value, axes: Sequence[int]) -> Value:
    return b.reduce("sum", b.unary("abs", x), axes)


def sum_square(b: Builder, x: Value, axes: Sequence[int]) -> Value:
    return b.reduce("sum", b.mul(x, x), axes)


def l2(b: Builder, x: Value, axes: Sequence[int]) -> Value:
    return b.unary("sqrt", sum_square(b, x, axes))


def log_sum(b: Builder, x: Value, axes: Sequence[int]) -> Value:
    return b.unary("log", b.reduce("sum", x, axes))


def log_sum_exp(b: Builder, x: Value, axes: Sequence[int]) -> Value:
    """Relative to the maximum, so that ``exp`` cannot overflow."""
    if not axes:
        return x
    largest = b.reduce("max", x, axes)
    total = b.reduce("sum", b.unary("exp", b.sub(x, largest)), axes)
    return b.add(b.unary("log", total), largest)


REDUCTIONS: dict[str, Compute] = {
    "ReduceL1": l1,
    "ReduceL2": l2,
    "ReduceLogSum": log_sum,
    "ReduceLogSumExp": log_sum_exp,
    "ReduceMax": plain("max"),
    "ReduceMean": mean,
    "ReduceMin": plain("min"),
    "ReduceProd": plain("prod"),
    "ReduceSum": plain("sum"),
    "ReduceSumSquare": sum_square,
}


def reduction(compute: Compute) -> Callable[[Node, Builder], Value]:
    def convert(node: Node, b: Builder) -> Value:
        x = node.input(0)
        keep = node.flag("keepdims", True)
        nothing = node.flag("noop_with_empty_axes")
        given = node.axes("axes", 1)
        if not given:
            axes = [] if nothing else list(range(rank(x)))
        else:
            axes = sorted(wrap_axes(given, rank(x)))
        result = compute(b, x, axes)
        if keep:
            return result
        return b.reshape(result, [d for i, d in enumerate(dims(x)) if i not in axes])

    return convert


for _op, _compute in REDUCTIONS.items():
    converter(_op)(reduction(_compute))


def extreme(b: Builder, x: Value, reduction: str, axis: int, last: bool) -> Value:
    """Position, as float32 and with ``axis`` kept, of the first or last extreme element."""
    size = dims(x)[axis]
    if size > MAX_EXACT_POSITION:
        raise UnsupportedUseError(
            f"an axis of {size} elements: at most {MAX_EXACT_POSITION} are supported"
        )
    view = [1] * rank(x)
    view[axis] = size
    positions = constant(np.arange(size, dtype=np.float32).reshape(view))
    hit = b.compare("eq", x, b.reduce(reduction, x, [axis]))
    if last:
        return b.reduce("max", b.select(hit, positions, constant(-1.0)), [axis])
    return b.reduce("min", b.select(hit, positions, constant(float(size))), [axis])


def arg(reduction: str) -> Callable[[Node, Builder], Value]:
    def convert(node: Node, b: Builder) -> Value:
        x = node.input(0)
        axis = wrap_axis(node.integer("axis", 0), rank(x))
        position = extreme(b, x, reduction, axis, node.flag("select_last_index"))
        index = b.cast(position, i64)
        if node.flag("keepdims", True):
            return index
        return b.reshape(index, [d for i, d in enumerate(dims(x)) if i != axis])

    return convert


converter("ArgMax")(arg("max"))
converter("ArgMin")(arg("min"))


@converter("Hardmax")
def hardmax(node: Node, b: Builder) -> Value:
    """1 at the first largest element, 0 elsewhere."""
    x, axis = flattened(node, b, node.float_in(0), node.version)
    view = [1] * rank(x)
    view[axis] = dims(x)[axis]
    positions = constant(np.arange(dims(x)[axis], dtype=np.float32).reshape(view))
    first = extreme(b, x, "max", axis, last=False)
    hot = b.cast(b.compare("eq", positions, first), f32)
    return b.reshape(hot, dims(node.input(0)))


def flattened(node: Node, b: Builder, x: Value, version: int) -> tuple[Value, int]:
    """``x`` and its normalised axis; before opset 13 all axes from there on are one."""
    axis = wrap_axis(node.integer("axis", -1 if version >= 13 else 1), rank(x))
    tail = dims(x)[axis + 1 :]
    if version >= 13 or prod(tail) == 1:
        return x, axis
    return b.reshape(x, (prod(dims(x)[:axis]), prod(dims(x)[axis:]))), 1


@converter("Softmax")
def softmax(node: Node, b: Builder) -> Value:
    return softmax_of(node, b, node.float_in(0), node.version)


def softmax_of(node: Node, b: Builder, value: Value, version: int) -> Value:
    """Softmax with the node's axis, by the rules of an opset."""
    x, axis = flattened(node, b, value, version)
    return b.reshape(b.emit(nn.SoftmaxOp(b.ssa(x), axis)), dims(value))


@converter("LogSoftmax")
def log_softmax(node: Node, b: Builder) -> Value:
    """``d - log(sum(exp(d)))`` with ``d = x - max(x)``."""
    x, axis = flattened(node, b, node.float_in(0), node.version)
    centred = b.sub(x, b.reduce("max", x, [axis]))
    total = b.reduce("sum", b.unary("exp", centred), [axis])
    return b.reshape(b.sub(centred, b.unary("log", total)), dims(node.input(0)))
