"""ConvTranspose: zeros between the pixels, then a convolution with the flipped kernel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from uqfc.dialects import nn
from uqfc.errors import ModelError
from uqfc.frontend.builder import Builder
from uqfc.frontend.node import Node
from uqfc.frontend.onnx_ops.registry import converter
from uqfc.frontend.onnx_ops.windows import (
    AUTO_PAD,
    Window,
    as_images,
    as_tensor,
    per_axis,
    widen,
)
from uqfc.frontend.values import UnsupportedUseError, Value, constant, dims, rank
from uqfc.numerics import F32


@converter("ConvTranspose")
def conv_transpose(node: Node, b: Builder) -> Value:
    """Output length is ``stride * (n - 1) + span + output_padding - pads``."""
    x = node.float_in(0)
    weight = node.array(1, "W")
    bias = node.float_in(2) if node.has(2) else None
    groups = node.integer("group", 1)
    kernel = weight.shape[2:]
    spatial = len(kernel)
    check_weight(x, weight, groups)
    strides = widen(per_axis(node, "strides", spatial, 1), 1)
    dilations = widen(per_axis(node, "dilations", spatial, 1), 1)
    spans = [(k - 1) * d + 1 for k, d in zip(widen(kernel, 1), dilations, strict=True)]
    low, high = cropping(node, dims(x)[2:], spans[-spatial:], strides)
    window = Window(widen(kernel, 1), strides, dilations, widen(low, 0), widen(high, 0), (0, 0))
    return convolve_transposed(b, x, weight, bias, window, groups)


def check_weight(x: Value, weight: F32, groups: int) -> None:
    """ModelError unless the weight is [C, O / groups, …] for C channels."""
    fits = rank(x) == weight.ndim >= 3 and weight.shape[0] == dims(x)[1]
    if not fits or groups < 1 or weight.shape[0] % groups:
        raise ModelError(f"weight {list(weight.shape)} does not fit input {list(dims(x))}")


def convolve_transposed(
    b: Builder, x: Value, weight: F32, bias: Value | None, window: Window, groups: int
) -> Value:
    """The transposed convolution of [N, C, …]; what the window calls padding is cut from the
    result, or added after it where ``high`` is negative."""
    images = spread(b, as_images(b, x), window.strides)
    edges = [(0, 0)] * 4
    for axis in range(2):
        span = (window.kernel[axis] - 1) * window.dilations[axis]
        edges[axis + 1] = span - window.low[axis], span - window.high[axis]
    images = resized_edges(b, images, edges)
    result = b.emit(
        nn.Conv2dOp(
            b.ssa(images),
            b.ssa(as_images(b, constant(flipped(weight, groups)))),
            None if bias is None else b.ssa(bias),
            dilations=window.dilations,
            groups=groups,
        )
    )
    return as_tensor(b, result, weight.ndim - 2)


def flipped(weight: F32, groups: int) -> F32:
    """[C, O / g, …] as the weight [O, C / g, …] of the convolution that does the same."""
    c, per_group, *kernel = weight.shape
    parts = weight.reshape(groups, c // groups, per_group, *kernel).swapaxes(1, 2)
    joined = parts.reshape(groups * per_group, c // groups, *kernel)
    return np.flip(joined, axis=tuple(range(2, joined.ndim)))


def cropping(
    node: Node, size: Sequence[int], spans: Sequence[int], strides: Sequence[int]
) -> tuple[list[int], list[int]]:
    """What is cut before and after each axis; negative where ``output_padding`` adds."""
    spatial = len(size)
    steps = strides[-spatial:]
    extra = node.ints("output_padding") or [0] * spatial
    wanted = node.ints("output_shape")
    mode = node.choice("auto_pad", "NOTSET", AUTO_PAD)
    pads = node.ints("pads") or [0] * 2 * spatial
    node.ignore("kernel_shape")
    if len(extra) != spatial or len(pads) != 2 * spatial or len(wanted or extra) < spatial:
        raise ModelError(f"pads, output_padding and output_shape are not for {spatial} axes")
    full = [s * (n - 1) + k + e for s, n, k, e in zip(steps, size, spans, extra, strict=True)]
    if wanted is None and mode in ("NOTSET", "VALID"):
        low = pads[:spatial] if mode == "NOTSET" else [0] * spatial
        high = pads[spatial:] if mode == "NOTSET" else [0] * spatial
    else:
        wanted = wanted or [n * s for n, s in zip(size, steps, strict=True)]
        totals = [f - w for f, w in zip(full, wanted[-spatial:], strict=True)]
        smaller, larger = [t // 2 for t in totals], [t - t // 2 for t in totals]
        low, high = (larger, smaller) if mode != "SAME_UPPER" else (smaller, larger)
    if min(low) < 0:
        raise UnsupportedUseError("an output that starts before the first pixel's")
    return list(low), [h - e for h, e in zip(high, extra, strict=True)]


def spread(b: Builder, images: Value, strides: Sequence[int]) -> Value:
    """``stride - 1`` zeros between neighbouring pixels of NHWC images."""
    if max(strides) == 1:
        return images
    n, h, w, c = dims(images)
    high, wide = strides
    cells = b.reshape(images, (n, h, 1, w, 1, c))
    cells = b.pad(cells, [0] * 6, (0, 0, high - 1, 0, wide - 1, 0))
    grown = b.reshape(cells, (n, h * high, w * wide, c))
    shape = (n, (h - 1) * high + 1, (w - 1) * wide + 1, c)
    return b.slice(grown, [0] * 4, shape, [1] * 4)


def resized_edges(b: Builder, x: Value, edges: Sequence[tuple[int, int]]) -> Value:
    """Adds zeros around ``x``; cuts where the number is negative."""
    starts = [max(-low, 0) for low, _ in edges]
    shape = [n + min(a, 0) + min(z, 0) for n, (a, z) in zip(dims(x), edges, strict=True)]
    if min(shape) < 1:
        raise UnsupportedUseError("pads that cut everything")
    cut = b.slice(x, starts, shape, [1] * len(shape))
    return b.pad(cut, [max(a, 0) for a, _ in edges], [max(z, 0) for _, z in edges])
