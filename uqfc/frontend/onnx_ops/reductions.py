"""Reductions over axes, softmax and its logarithm."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

from xdsl.dialects.builtin import f32

from uqfc.dialects import nn
from uqfc.frontend.builder import Builder
from uqfc.frontend.node import Node
from uqfc.frontend.onnx_ops.registry import converter
from uqfc.frontend.values import Unsupported, Value, dims, kind, rank, wrap_axes, wrap_axis

Compute = Callable[[Builder, Value, Sequence[int]], Value]


def plain(reduction: str) -> Compute:
    return lambda b, x, axes: b.reduce(reduction, x, axes)


def mean(b: Builder, x: Value, axes: Sequence[int]) -> Value:
    if kind(x) != f32:
        raise Unsupported(f"elements {kind(x)}: expected floats")
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


def flattened(node: Node, b: Builder) -> tuple[Value, int]:
    """The operand and its normalised axis; before opset 13 all axes from there on are one."""
    (x,) = node.floats_in(0)
    axis = wrap_axis(node.integer("axis", -1 if node.version >= 13 else 1), rank(x))
    tail = dims(x)[axis + 1 :]
    if node.version >= 13 or prod(tail) == 1:
        return x, axis
    return b.reshape(x, (prod(dims(x)[:axis]), prod(dims(x)[axis:]))), 1


@converter("Softmax")
def softmax(node: Node, b: Builder) -> Value:
    x, axis = flattened(node, b)
    return b.reshape(b.emit(nn.SoftmaxOp(b.ssa(x), axis)), dims(node.input(0)))


@converter("LogSoftmax")
def log_softmax(node: Node, b: Builder) -> Value:
    """``d - log(sum(exp(d)))`` with ``d = x - max(x)``."""
    x, axis = flattened(node, b)
    centred = b.sub(x, b.reduce("max", x, [axis]))
    total = b.reduce("sum", b.unary("exp", centred), [axis])
    return b.reshape(b.sub(centred, b.unary("log", total)), dims(node.input(0)))
