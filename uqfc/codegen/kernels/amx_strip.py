"""How the lines of a convolution's output are done on AMX, and from which memory.

The pixels of a line are rows of one stride. With stride 1 so are those of many lines: between two
of them are as many that are not wanted as a padded line is longer than a line of output.
"""

from __future__ import annotations

from dataclasses import dataclass

from uqfc.codegen.isa import amx
from uqfc.codegen.kernels.operands import ConvDims
from uqfc.packing import round_up

STRIP_BYTES = 192 * 1024
"""Of padded lines that all panels are applied to: part of a second level cache."""
CHUNK = 64


@dataclass(frozen=True)
class AmxStrip:
    """Sizes in bytes, but ``lines`` and ``rows``.

    ``lines`` of output at a time, from ``rows`` of the image. Without ``padded`` the image is read
    where it is. ``joined``: several lines are one.
    """

    padded: bool
    joined: bool
    lines: int
    rows: int
    left: int
    copied: int
    filled: int
    """Of a line, padding included: the next one follows at once."""
    image_line: int
    over_read: int

    @staticmethod
    def of(dims: ConvDims) -> AmxStrip:
        channels = dims.in_channels
        width = (dims.out_width - 1) * dims.stride[1] + dims.reach[1]
        padded = dims.is_padded or not _fills_a_tile(dims)
        columns = width if padded else dims.width
        most = (STRIP_BYTES // (columns * channels) - dims.reach[0]) // dims.stride[0] + 1
        strips = -(-dims.out_height // max(1, most))
        lines = -(-dims.out_height // strips)
        left = min(dims.pad_begin[1], width)
        return AmxStrip(
            padded=padded,
            joined=_is_joined(dims, columns),
            lines=lines,
            rows=(lines - 1) * dims.stride[0] + dims.reach[0],
            left=left * channels,
            copied=max(0, min(dims.width, width - left)) * channels,
            filled=columns * channels,
            image_line=dims.width * channels,
            over_read=amx.TILE_ROWS * dims.stride[1] * channels + amx.TILE_K,
        )

    @property
    def bytes(self) -> int:
        """Of scratch memory."""
        size = self.rows * self.filled + max(self.over_read, CHUNK)
        return round_up(size, CHUNK) if self.padded else 0

    def line_pixels(self, dims: ConvDims) -> int:
        """Rows of a line of the product; joined lines are one."""
        between = self.filled // dims.in_channels
        return (self.lines - 1) * between * self.joined + dims.out_width


def _cost(pixels: int) -> float:
    """Of a line, in tiles: a tile that is not one of two loads more per product."""
    tiles = -(-pixels // amx.TILE_ROWS)
    return tiles + tiles % 2 / 4


def _is_joined(dims: ConvDims, columns: int) -> bool:
    """Whether that costs less; ``columns`` pixels are from line to line."""
    if dims.stride != (1, 1):
        return False
    joined = _cost((dims.out_height - 1) * columns + dims.out_width)
    return joined < dims.out_height * _cost(dims.out_width)


def _fills_a_tile(dims: ConvDims) -> bool:
    """An image that is read where it is has the rows of a tile, so that none reads past it."""
    pixels = dims.out_width
    if _is_joined(dims, dims.width):
        pixels += (dims.out_height - 1) * dims.width
    return pixels >= amx.TILE_ROWS
