"""Pools over windows and over whole images."""

from __future__ import annotations

from uqfc.dialects import nn
from uqfc.dialects.tensors import Shape
from uqfc.frontend.builder import Builder
from uqfc.frontend.onnx_ops.pooling import average_of
from uqfc.frontend.onnx_ops.windows import Window, as_images, as_tensor, overhang, widen
from uqfc.frontend.torch.call import Call
from uqfc.frontend.torch.ops.windows import per_axis
from uqfc.frontend.torch.registry import converter
from uqfc.frontend.values import UnsupportedUseError, Value, dims, rank


def batched(b: Builder, x: Value, spatial: int) -> Value:
    """The tensor with a first axis for images, which it may lack."""
    return x if rank(x) == spatial + 2 else b.reshape(x, (1, *dims(x)))


def pool_window(call: Call, size: Shape) -> Window:
    """The window over spatial axes of this size; its strides are its size if none are given."""
    spatial = len(size)
    kernel = per_axis(call, "kernel_size", spatial)
    strides = per_axis(call, "stride", spatial) if call.ints("stride") else kernel
    low = per_axis(call, "padding", spatial)
    dilations = per_axis(call, "dilation", spatial) if call.given("dilation") else [1] * spatial
    extra = [0] * spatial
    if call.flag("ceil_mode"):
        spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
        each = zip(size, low, low, spans, strides, strict=True)
        extra = [overhang(*of_axis) for of_axis in each]
    return Window(
        widen(kernel, 1),
        widen(strides, 1),
        widen(dilations, 1),
        widen(low, 0),
        widen(low, 0),
        widen(extra, 0),
    )


AVERAGE = {"avg_pool1d": 1, "avg_pool2d": 2}
MAXIMUM = {"max_pool1d": 1, "max_pool2d": 2, "max_pool2d_with_indices": 2}
ADAPTIVE_AVERAGE = {
    "adaptive_avg_pool1d": 1,
    "_adaptive_avg_pool2d": 2,
    "adaptive_avg_pool2d": 2,
}
"""ATen op: number of spatial axes."""


@converter(*AVERAGE)
def avg_pool(call: Call, b: Builder) -> Value:
    call.must_be("divisor_override", None)
    x, spatial = call.real_tensor("self"), AVERAGE[call.op]
    window = pool_window(call, dims(x)[-spatial:])
    images = as_images(b, batched(b, x, spatial))
    pooled = as_tensor(b, average_of(b, images, window, call.flag("count_include_pad")), spatial)
    return b.reshape(pooled, (*dims(x)[:-spatial], *dims(pooled)[-spatial:]))


@converter(*MAXIMUM, moves=False)
def max_pool(call: Call, b: Builder) -> Value | list[Value]:
    x, spatial = call.value("self"), MAXIMUM[call.op]
    w = pool_window(call, dims(x)[-spatial:])
    images = b.ssa(as_images(b, batched(b, x, spatial)))
    op = nn.MaxPool2dOp(images, w.kernel, w.strides, w.padding, w.dilations)
    pooled = as_tensor(b, b.emit(op), spatial)
    result = b.reshape(pooled, (*dims(x)[:-spatial], *dims(pooled)[-spatial:]))
    return [result] if call.op == "max_pool2d_with_indices" else result


@converter(*ADAPTIVE_AVERAGE)
def adaptive_avg_pool(call: Call, b: Builder) -> Value:
    """The mean over the image, or over equal windows that do not overlap."""
    x, spatial = call.real_tensor("self"), ADAPTIVE_AVERAGE[call.op]
    window = adaptive_window(call, dims(x)[-spatial:])
    if window.kernel[-spatial:] == dims(x)[-spatial:]:
        return b.reduce("mean", x, range(rank(x) - spatial, rank(x)))
    images = as_images(b, batched(b, x, spatial))
    pooled = as_tensor(b, average_of(b, images, window, False), spatial)
    return b.reshape(pooled, (*dims(x)[:-spatial], *dims(pooled)[-spatial:]))


@converter("adaptive_max_pool2d")
def adaptive_max_pool(call: Call, b: Builder) -> list[Value]:
    x = call.real_tensor("self")
    window = adaptive_window(call, dims(x)[-2:])
    if window.kernel == dims(x)[-2:]:
        return [b.reduce("max", x, (rank(x) - 2, rank(x) - 1))]
    images = b.ssa(as_images(b, batched(b, x, 2)))
    pooled = as_tensor(b, b.emit(nn.MaxPool2dOp(images, window.kernel, window.strides)), 2)
    return [b.reshape(pooled, (*dims(x)[:-2], *dims(pooled)[-2:]))]


def adaptive_window(call: Call, size: Shape) -> Window:
    """Windows that give ``output_size``; UnsupportedUseError if they are not all equal."""
    given = call.get("output_size")
    wanted = list(given) if isinstance(given, list | tuple) else [given] * len(size)
    output = [n if m is None else int(m) for n, m in zip(size, wanted, strict=True)]
    if any(m < 1 or n % m for n, m in zip(size, output, strict=True)):
        raise UnsupportedUseError(f"sizes {list(size)} are no multiples of {output}")
    kernel = widen([n // m for n, m in zip(size, output, strict=True)], 1)
    return Window(kernel, kernel, (1, 1), (0, 0), (0, 0), (0, 0))
