"""Conv: channel-first tensors around an NHWC convolution with OHWI weights."""

from __future__ import annotations

from uqfc.dialects import nn
from uqfc.errors import ModelError
from uqfc.frontend.builder import Builder
from uqfc.frontend.node import Node
from uqfc.frontend.onnx_ops.registry import converter
from uqfc.frontend.onnx_ops.windows import Window, as_images, as_tensor, window_of
from uqfc.frontend.values import Value, dims, rank


@converter("Conv")
def conv(node: Node, b: Builder) -> Value:
    x, weight = node.floats_in(0, 1)
    bias = node.float_in(2) if node.has(2) else None
    return convolve(node, b, x, weight, bias)


def convolve(node: Node, b: Builder, x: Value, weight: Value, bias: Value | None) -> Value:
    """The convolution that the node's attributes describe; x [N, C, …], weight [O, C / g, …]."""
    groups = node.integer("group", 1)
    window = conv_window(node, x, weight)
    images, kernels = as_images(b, x), as_images(b, weight)
    result = b.emit(
        nn.Conv2dOp(
            b.ssa(images),
            b.ssa(kernels),
            None if bias is None else b.ssa(bias),
            strides=window.strides,
            padding=window.padding,
            dilations=window.dilations,
            groups=groups,
        )
    )
    return as_tensor(b, result, rank(x) - 2)


def conv_window(node: Node, x: Value, weight: Value) -> Window:
    """The window, whose size is the weight's; ModelError if the shapes do not belong together."""
    if rank(x) != rank(weight) or rank(x) < 3:
        raise ModelError(f"weight {list(dims(weight))} does not fit input {list(dims(x))}")
    kernel = dims(weight)[2:]
    stated = node.ints("kernel_shape")
    if stated is not None and tuple(stated) != kernel:
        raise ModelError(f"attribute 'kernel_shape' is {stated}, the weight's is {list(kernel)}")
    return window_of(node, dims(x)[2:], kernel)
