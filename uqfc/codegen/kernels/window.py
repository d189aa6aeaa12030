"""Sliding windows over NHWC images: sizes, and which taps of an output pixel are inside."""

from __future__ import annotations

from dataclasses import dataclass

from uqfc.codegen.builder import Builder
from uqfc.codegen.kernels.tensor import Argument, larger, smaller
from uqfc.codegen.vector import Value

PARAMETERS = (
    "batch",
    "height",
    "width",
    "channels",
    "out_height",
    "out_width",
    "kernel_height",
    "kernel_width",
    "stride_y",
    "stride_x",
    "dilation_y",
    "dilation_x",
    "pad_y",
    "pad_x",
)
"""Parameters (i64) of functions over windows."""


@dataclass(frozen=True)
class WindowDims:
    """A window over [batch, height, width, channels].

    Padding at the end follows from the size of the output. ``pitch``: elements from an output pixel
    to the next, 0: ``channels``.
    """

    batch: int
    height: int
    width: int
    channels: int
    out_height: int
    out_width: int
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    pad_begin: tuple[int, int] = (0, 0)
    pitch: int = 0

    @property
    def is_global(self) -> bool:
        """One window, which is the image."""
        size, out = (self.height, self.width), (self.out_height, self.out_width)
        plain = self.dilation == (1, 1) and self.pad_begin == (0, 0)
        return self.kernel == size and out == (1, 1) and plain

    @property
    def arguments(self) -> list[Argument]:
        """In the order of ``PARAMETERS``, then the pitch if there is one."""
        image = (self.batch, self.height, self.width, self.channels)
        pairs = (self.kernel, self.stride, self.dilation, self.pad_begin)
        sizes = [*image, self.out_height, self.out_width, *(v for pair in pairs for v in pair)]
        return [*sizes, self.pitch] if self.pitch else [*sizes]


def taps_inside(
    b: Builder, axis: str, position: Value, *, dilated: bool
) -> tuple[Value, Value, Value]:
    """``(first, stop, origin)`` for an output row (axis "y") or column ("x").

    Taps ``first … stop - 1`` are inside; tap ``t`` is at ``origin + t * dilation``. ``stop`` may be
    below ``first``: then none is. Only if ``dilated`` the dilation may be other than 1.
    """
    size = b.value("height" if axis == "y" else "width")
    kernel = b.value("kernel_height" if axis == "y" else "kernel_width")
    origin = position * b.value(f"stride_{axis}") - b.value(f"pad_{axis}")
    before, room = larger(b.i64(0) - origin, 0), larger(size - origin, 0)
    if dilated:
        dilation = b.value(f"dilation_{axis}")
        before, room = ((v + dilation - 1) // dilation for v in (before, room))
    return before, smaller(room, kernel), origin
