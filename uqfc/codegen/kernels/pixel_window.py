"""Windows of a few small pixels: which dot products make the outputs of a tile of a line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from uqfc.codegen.isa import Isa
from uqfc.codegen.kernels.epilogue import Epilogue
from uqfc.codegen.kernels.operands import ConvDims
from uqfc.codegen.kernels.tight_pixels import (
    APART,
    COLUMNS,
    PIXEL_BYTES,
    ROW_WORDS,
    ROWS,
    STRIDE,
    WORD,
)
from uqfc.codegen.vector import VECTOR_BYTES
from uqfc.packing import CHANNELS, Storage, round_up

PIXEL = 4
"""Bytes of a pixel of the strip, if it is not tight."""
TILE = 8
"""Pixels of a tile: sums of these and of the tile before are in registers, beside the weights."""
MOST_TAPS = 9


class Dot(NamedTuple):
    """A dot product: of which pixel of a tile, and where its operands are."""

    pixel: int
    row: int
    """Of the window; the one after the last has words of last bytes."""
    offset: int
    """Of the word in the row, from the start of the tile's first window."""
    weight: int


@dataclass(frozen=True)
class Window:
    """Taps of a convolution, and pixels of the input from one output of a line to the next."""

    height: int
    width: int
    stride: int
    channels: int
    """Of a pixel: 3 or 4."""
    joined: bool
    """There are 16 output channels: those of neighbours are adjacent in memory."""
    whole: bool
    """Output channels are a multiple of 16."""

    @staticmethod
    def of(isa: Isa, dims: ConvDims, storage: Storage, epilogue: Epilogue) -> Window | None:
        """That of a convolution if this is a kernel for it."""
        height, width = dims.kernel
        fits = (
            PIXEL - 1 <= dims.in_channels <= PIXEL and dims.groups == 1 and dims.dilation == (1, 1)
        )
        fits = fits and 1 < height * width <= MOST_TAPS and dims.out_width >= TILE
        plain = storage != "s16" and epilogue.output == "u8" and not epilogue.residual
        if isa.name != "vnni512" or not (fits and plain):
            return None
        n = dims.out_channels
        sizes = height, width, dims.stride[1], dims.in_channels
        return Window(*sizes, joined=n == CHANNELS, whole=n % CHANNELS == 0)

    @property
    def name(self) -> str:
        form = "_joined" if self.joined else "" if self.whole else "_part"
        return f"{self.height}x{self.width}x{self.channels}s{self.stride}{form}"

    @property
    def taps(self) -> int:
        return self.height * self.width

    @property
    def tight(self) -> bool:
        """Whether windows are those of ``tight_pixels``.

        With stores of less than a vector LLVM has all loads of a tile before them, and spills them.
        """
        sizes = self.height, self.width, self.stride, self.channels
        return self.whole and sizes == (ROWS, COLUMNS, STRIDE, PIXEL_BYTES)

    @property
    def pixel(self) -> int:
        """Bytes of a pixel of the strip."""
        return self.channels if self.tight else PIXEL

    @property
    def words(self) -> int:
        """Dot products of a vector of outputs."""
        return ROWS * ROW_WORDS + 1 if self.tight else self.taps

    def line_bytes(self, pixels: int) -> int:
        """Bytes of scratch memory for a line of outputs: words of last bytes."""
        return round_up(pixels * WORD, VECTOR_BYTES) if self.tight else 0

    def dots(self) -> list[Dot]:
        """The dot products of a tile."""
        if self.tight:
            places = [(y, w) for y in range(ROWS) for w in range(ROW_WORDS)]
            rows = [
                Dot(p, y, APART * p + WORD * w, ROW_WORDS * y + w)
                for y, w in places
                for p in range(TILE)
            ]
            return rows + [Dot(p, ROWS, WORD * p, ROWS * ROW_WORDS) for p in range(TILE)]
        pairs = [(column, pixel) for column in range(self.width) for pixel in range(TILE)]
        pairs.sort(key=lambda pair: (pair[1] * self.stride + pair[0], pair[1]))
        return [
            Dot(p, y, PIXEL * (p * self.stride + tap), self.width * y + tap)
            for y in range(self.height)
            for tap, p in pairs
        ]
