"""Pools over windows and over whole images."""

from __future__ import annotations

from uqfc.dialects import nn
from uqfc.errors import ModelError
from uqfc.frontend.builder import Builder
from uqfc.frontend.node import Node
from uqfc.frontend.onnx_ops.registry import converter
from uqfc.frontend.onnx_ops.windows import Window, as_images, as_tensor, window_of
from uqfc.frontend.values import Value, dims, rank


def pool_window(node: Node, x: Value) -> Window:
    kernel = node.ints("kernel_shape")
    if kernel is None or len(kernel) != rank(x) - 2 or min(kernel, default=0) < 1:
        raise ModelError(f"kernel_shape {kernel} does not fit input {list(dims(x))}")
    return window_of(node, dims(x)[2:], tuple(kernel))


@converter("MaxPool", moves=True)
def max_pool(node: Node, b: Builder) -> Value:
    node.ignore("storage_order")
    x = node.input(0)
    images = as_images(b, x)
    w = pool_window(node, x)
    op = nn.MaxPool2dOp(b.ssa(images), w.kernel, w.strides, w.padding, w.dilations)
    return as_tensor(b, b.emit(op), rank(x) - 2)


@converter("AveragePool")
def average_pool(node: Node, b: Builder) -> Value:
    x = node.float_in(0)
    images = as_images(b, x)
    average = average_of(b, images, pool_window(node, x), node.flag("count_include_pad"))
    return as_tensor(b, average, rank(x) - 2)


def average_of(b: Builder, images: Value, w: Window, include: bool) -> Value:
    """Padding counts if ``include``; what ``ceil_mode`` adds beyond it never does."""
    padding = w.padding
    if include and any(w.extra):
        images = b.pad(images, (0, *w.low, 0), (0, *w.high, 0))
        padding, include = (0, 0, *w.extra), False
    include = include and any(padding)
    op = nn.AvgPool2dOp(
        b.ssa(images), w.kernel, w.strides, padding, w.dilations, count_include_pad=include
    )
    return b.emit(op)


@converter("GlobalAveragePool")
def global_average_pool(node: Node, b: Builder) -> Value:
    x = node.float_in(0)
    return b.reduce("mean", x, range(2, rank(x)))


@converter("GlobalMaxPool")
def global_max_pool(node: Node, b: Builder) -> Value:
    x = node.float_in(0)
    return b.reduce("max", x, range(2, rank(x)))
