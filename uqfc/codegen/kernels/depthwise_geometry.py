"""What one step of a depthwise convolution covers: output rows, input columns, words of weights.

Input rows are taken four at a time: the bytes of four vertically adjacent pixels are one word per
channel. Where two output rows share their words, the weights of the second are those of the first
moved down by the stride; taps that this adds are 0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from uqfc.codegen.vector import LANES, Value

VECTORS = 4
"""Vectors of 16 outputs of a row that are computed together: their bytes fill a vector of 64."""

MOST_HELD = 12
"""Registers of input columns that are held along a row."""
MOST_SCATTERED = 32
"""So many channels are done 16 at a time even where 64 at a time is better."""
SEGMENT_WORDS = 96
"""Interleaved words of 16 channels of a segment: with four of them 24 KB, half of a L1 cache."""


@dataclass(frozen=True)
class Geometry:
    """``rows`` output rows by ``pixels`` outputs of ``groups`` times 16 channels."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    rows: int = 1
    groups: int = 1

    @staticmethod
    def of(
        kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int], shifts: bool
    ) -> Geometry:
        """Of 16 channels, with two output rows if they take as many words as one.

        ``shifts``: weights can be moved.
        """
        one = Geometry(kernel, stride, dilation)
        two = replace(one, rows=2)
        return two if shifts and dilation[0] == 1 and two.words == one.words else one

    @property
    def broad(self) -> Geometry:
        """The same with 64 channels of a pixel instead of 16 channels of four."""
        return replace(self, groups=VECTORS)

    @property
    def pixels(self) -> int:
        return VECTORS // self.groups

    @property
    def is_held(self) -> bool:
        """Registers can hold the input columns of a block of outputs."""
        return len(self.columns) * self.words * self.groups <= MOST_HELD

    @property
    def in_rows(self) -> int:
        """Input rows of a step, ``dilation[0]`` apart."""
        return (self.rows - 1) * self.stride[0] + self.kernel[0]

    @property
    def words(self) -> int:
        """Words of an input column."""
        return -(-self.in_rows // 4)

    def column(self, pixel: int, kx: int) -> int:
        """The input column, from that of the first tap of pixel 0."""
        return pixel * self.stride[1] + kx * self.dilation[1]

    @property
    def span(self) -> int:
        """Input columns of one output, from its first tap to its last."""
        return (self.kernel[1] - 1) * self.dilation[1] + 1

    @property
    def columns(self) -> list[int]:
        """Input columns of ``pixels`` outputs."""
        taps = [(p, kx) for p in range(self.pixels) for kx in range(self.kernel[1])]
        return sorted({self.column(p, kx) for p, kx in taps})

    @property
    def advance(self) -> int:
        """Input columns from one group of ``pixels`` outputs to the next."""
        return self.pixels * self.stride[1]

    @property
    def kept(self) -> list[int]:
        """Columns that the group of outputs before has, too: ``advance`` further there."""
        return [q for q in self.columns if q + self.advance in self.columns]

    @property
    def segment(self) -> int:
        """Outputs of a row whose input columns are interleaved together."""
        columns = max(SEGMENT_WORDS // self.words - self.span, 0)
        return max(VECTORS, columns // self.stride[1] // VECTORS * VECTORS)

    @property
    def segment_columns(self) -> int:
        """Input columns of a segment."""
        return (self.segment - 1) * self.stride[1] + self.span

    def moved(self, words: list[Value], row: int) -> list[Value]:
        """The words of weights [16] of one column for an output row, from those of row 0."""
        shift = 8 * row * self.stride[0]
        if not shift:
            return words
        zero = words[0].b.i32(0, words[0].lanes)
        whole, bits = divmod(shift, 32)
        source = [*[zero] * (whole + 1), *words]
        if not bits:
            return source[1 : len(words) + 1]
        return [
            (source[i + 1] << bits) | source[i].shift_right_logical(32 - bits)
            for i in range(len(words))
        ]


def blocks_of(channels: int) -> tuple[int, ...]:
    """Sizes of the blocks of channels, each used as long as the next is not better."""
    if channels <= MOST_SCATTERED:
        return (LANES,)
    rest = channels % (VECTORS * LANES)
    broad = VECTORS * LANES
    return (broad, LANES) if 0 < rest <= MOST_SCATTERED else (broad,)
