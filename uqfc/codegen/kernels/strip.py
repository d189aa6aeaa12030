"""Where a convolution without im2col finds its rows: padded rows, segments of windows."""

from __future__ import annotations

from dataclasses import dataclass

from uqfc.codegen.builder import Builder
from uqfc.codegen.kernels.operands import ConvDims
from uqfc.codegen.kernels.padding import CHUNK
from uqfc.codegen.kernels.tensor import smaller
from uqfc.codegen.vector import Pointer, Value
from uqfc.packing import round_up


@dataclass(frozen=True)
class Strip:
    """Padded rows in scratch memory: bytes of a row's parts, output lines at a time."""

    left: int
    copied: int
    pitch: int
    lines: int
    rows: int

    FEW_WEIGHTS = 16 * 1024
    SMALL = 24 * 1024
    LARGE = 192 * 1024

    @staticmethod
    def of(dims: ConvDims, most_lines: int, pixel: int) -> Strip:
        """A strip in the first level cache where few weights are read again for each.

        ``pixel``: bytes of a pixel.
        """
        width = (dims.out_width - 1) * dims.stride[1] + dims.reach[1]
        left = min(dims.pad_begin[1], width)
        copied = max(0, min(dims.width, width - dims.pad_begin[1])) * pixel
        pitch = round_up(width * pixel, CHUNK) + CHUNK
        few = dims.taps * dims.out_channels <= Strip.FEW_WEIGHTS
        most = (Strip.SMALL if few else Strip.LARGE) // pitch
        lines = max(1, (most - dims.reach[0]) // dims.stride[0] + 1)
        lines = min(lines, dims.out_height, most_lines)
        rows = (lines - 1) * dims.stride[0] + dims.reach[0]
        return Strip(left * pixel, copied, pitch, lines, rows)

    @property
    def bytes(self) -> int:
        return self.rows * self.pitch


def offsets_bytes(dims: ConvDims) -> int:
    """Bytes of scratch memory for the offsets of segments."""
    return round_up(dims.segments * 8, CHUNK)


def store_offsets(b: Builder) -> None:
    """Stores where each segment of a window starts, an i64 each.

    In a function with a parameter ``offsets``, ``kernel_height`` rows that are ``row_step`` bytes
    apart, and ``runs`` in each that are ``run_step`` apart.
    """
    get, target = b.value, [b.pointer("offsets")]
    with (
        b.loop(0, get("kernel_height"), carry=target) as row,
        b.loop(0, get("runs"), carry=target) as run,
    ):
        target[0].store(row * get("row_step") + run * get("run_step"))
        target[0] = target[0] + 8


def lines_from(b: Builder, line: Value) -> tuple[Pointer, Value, Value]:
    """The image of a line of output, the line in it, and how many to compute from there.

    In a function with parameters ``x``, ``image`` (its bytes), ``out_height``, ``strip_lines`` and
    ``end``, the line after the last one of all images.
    """
    get = b.value
    image = b.pointer("x") + line // get("out_height") * get("image")
    y = line % get("out_height")
    lines = smaller(get("out_height") - y, get("strip_lines"))
    return image, y, smaller(lines, get("end") - line)
