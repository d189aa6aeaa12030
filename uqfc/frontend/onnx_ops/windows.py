"""Sliding windows of convolutions and pools, and images in the layout of the ``nn`` dialect.

Images of rank 3 (N, C, L) are handled as rank 4 with a height of 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from uqfc.dialects.tensors import Shape
from uqfc.errors import ModelError
from uqfc.frontend.builder import Builder
from uqfc.frontend.node import Node
from uqfc.frontend.values import UnsupportedUseError, Value, dims

TO_NHWC = (0, 2, 3, 1)
TO_NCHW = (0, 3, 1, 2)
AUTO_PAD = ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")


@dataclass(frozen=True)
class Window:
    """Two spatial axes each; ``extra`` is how far the last window reaches beyond the padding."""

    kernel: Shape
    strides: Shape
    dilations: Shape
    low: Shape
    high: Shape
    extra: Shape

    @property
    def padding(self) -> Shape:
        """(top, left, bottom, right), with what ``ceil_mode`` adds."""
        bottom, right = (h + e for h, e in zip(self.high, self.extra, strict=True))
        return (*self.low, bottom, right)


def as_images(b: Builder, x: Value, permutation: Sequence[int] = TO_NHWC) -> Value:
    """[N, C, L] or [N, C, H, W] as NHWC; UnsupportedUseError for other ranks."""
    shape = dims(x)
    if len(shape) not in (3, 4):
        raise UnsupportedUseError(
            f"{len(shape) - 2} spatial dimensions: only 1 and 2 are supported"
        )
    if len(shape) == 3:
        x = b.reshape(x, (shape[0], shape[1], 1, shape[2]))
    return b.transpose(x, permutation)


def as_tensor(b: Builder, images: Value, spatial: int) -> Value:
    """The reverse of ``as_images``."""
    x = b.transpose(images, TO_NCHW)
    n, c, h, w = dims(x)
    return x if spatial == 2 else b.reshape(x, (n, c, h * w))


def window_of(node: Node, size: Shape, kernel: Shape) -> Window:
    """The node's window over an image of ``size`` (height, width)."""
    spatial = len(kernel)
    strides = per_axis(node, "strides", spatial, 1)
    dilations = per_axis(node, "dilations", spatial, 1)
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    room = size[-spatial:]
    low, high = padding_of(node, room, spans, strides)
    ceil_mode = node.flag("ceil_mode")
    extra = [0] * spatial
    if ceil_mode:
        extra = [
            overhang(n, a, z, span, step)
            for n, a, z, span, step in zip(room, low, high, spans, strides, strict=True)
        ]
    return Window(
        widen(kernel, 1),
        widen(strides, 1),
        widen(dilations, 1),
        widen(low, 0),
        widen(high, 0),
        widen(extra, 0),
    )


def per_axis(node: Node, name: str, spatial: int, default: int) -> list[int]:
    """A positive attribute with one value per spatial axis."""
    values = node.ints(name)
    if values is None:
        return [default] * spatial
    if len(values) != spatial or min(values) < 1:
        raise ModelError(f"attribute '{name}' is {values}, expected {spatial} positive values")
    return values


def padding_of(
    node: Node, size: Sequence[int], spans: Sequence[int], strides: Sequence[int]
) -> tuple[list[int], list[int]]:
    """Padding before and after each spatial axis, from ``pads`` or ``auto_pad``."""
    spatial = len(size)
    mode = node.choice("auto_pad", "NOTSET", AUTO_PAD)
    pads = node.ints("pads") or [0] * 2 * spatial
    if len(pads) != 2 * spatial:
        raise ModelError(f"attribute 'pads' is {pads}, expected {2 * spatial} values")
    if mode == "VALID":
        return [0] * spatial, [0] * spatial
    if mode == "NOTSET":
        if min(pads) < 0:
            raise UnsupportedUseError(f"attribute 'pads' is {pads}, supported: values >= 0")
        return pads[:spatial], pads[spatial:]
    totals = [
        max((-(-n // step) - 1) * step + span - n, 0)
        for n, span, step in zip(size, spans, strides, strict=True)
    ]
    smaller, larger = [t // 2 for t in totals], [t - t // 2 for t in totals]
    return (smaller, larger) if mode == "SAME_UPPER" else (larger, smaller)


def overhang(size: int, low: int, high: int, span: int, stride: int) -> int:
    """How far the last window of ``ceil_mode`` reaches beyond the padded axis.

    A window that would start in the padding after the axis is left out.
    """
    padded = size + low + high
    count = -(-(padded - span) // stride) + 1
    if (count - 1) * stride >= size + low:
        count -= 1
    return max((count - 1) * stride + span - padded, 0)


def widen(values: Sequence[int], first: int) -> Shape:
    """Two values: a single spatial axis is the width."""
    return tuple(values) if len(values) == 2 else (first, *values)
