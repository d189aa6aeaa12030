"""What one step of a depthwise convolution covers: output rows, input columns, words of weights.

A *word* is four bytes of the input per channel: of four vertically adjacent pixels, or of two by
two. Where the output rows of a step share their words, the weights of a row are those of row 0
moved down by the stride; taps that this adds are 0.

Words of two by two begin at every second input row, so a step, which is two output rows, begins
with words that the step before ended with; they are interleaved once (``again``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from uqfc.codegen.vector import LANES, Value

VECTORS = 4
"""Vectors of outputs whose bytes fill a vector of 64."""
TALL = (4, 1)
SQUARE = (2, 2)
"""Rows and columns of a word."""

LOW_HALF = 0xFFFF

MOST_HELD = 12
"""Registers of input columns that are held along a row."""
MOST_HELD_OF_TWO = 20
"""The same of two pixels of 64 channels, whose outputs are computed 32 channels at a time."""
BLOCK_PIXELS = (7, 6, 5, 4)
"""Outputs of a row that 32 registers hold of two rows, with their input columns."""
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
    pixels: int = VECTORS
    groups: int = 1
    word: tuple[int, int] = TALL

    @staticmethod
    def of(
        kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int], shifts: bool
    ) -> Geometry:
        """Of tall words, with two output rows if they take as many words as one.

        ``shifts``: weights can be moved.
        """
        one = Geometry(kernel, stride, dilation)
        two = replace(one, rows=2)
        return two if shifts and dilation[0] == 1 and two.words == one.words else one

    def broad(self, pixels: int = 1) -> Geometry:
        """The same with 64 channels of one or two pixels instead of 16 channels of four."""
        return replace(self, groups=VECTORS, pixels=pixels)

    def many(self, pixels: int, shifts: bool) -> Geometry:
        """For machines with many registers, where they do not hold the columns."""
        if not shifts or self.dilation != (1, 1) or self.stride[1] > SQUARE[1]:
            return replace(self, pixels=pixels)
        rows = 2 if self.stride[0] % SQUARE[0] else 1
        return replace(self, rows=rows, pixels=pixels, word=SQUARE)

    @property
    def is_held(self) -> bool:
        """Registers can hold the input columns of a block of outputs."""
        most = MOST_HELD if self.pixels == 1 or self.groups == 1 else MOST_HELD_OF_TWO
        return self.word == TALL and len(self.columns) * self.words * self.groups <= most

    # --- rows ----------------------------------------------------------------------------------

    @property
    def in_rows(self) -> int:
        """Input rows of a step, ``dilation[0]`` apart."""
        return (self.rows - 1) * self.stride[0] + self.kernel[0]

    @property
    def words(self) -> int:
        """Words of an input column."""
        return -(-self.in_rows // self.word[0])

    @property
    def again(self) -> int:
        """Words of an input column, its last ones, that the next step begins with."""
        if self.word == TALL:
            return 0
        return max(0, self.words - self.rows * self.stride[0] // self.word[0])

    def uses(self, row: int, word: int) -> bool:
        """Whether a word has taps of an output row."""
        first = row * self.stride[0]
        begin = word * self.word[0]
        return begin < first + self.kernel[0] and first < begin + self.word[0]

    # --- columns -------------------------------------------------------------------------------

    @property
    def pitch(self) -> int:
        """Input columns from one column of words to the next."""
        return 1 if self.word == TALL else self.stride[1]

    @property
    def taps(self) -> range:
        """Kernel columns that the words of an output begin with."""
        return range(0, self.kernel[1], self.word[1])

    def column(self, pixel: int, kx: int) -> int:
        """The column of words, from that of the first tap of pixel 0."""
        return (pixel * self.stride[1] + kx * self.dilation[1]) // self.pitch

    @property
    def span(self) -> int:
        """Columns of words of one output, from its first tap to its last."""
        return self.column(0, self.taps[-1]) + 1

    @property
    def columns(self) -> list[int]:
        """Columns of words of ``pixels`` outputs."""
        taps = [(p, kx) for p in range(self.pixels) for kx in self.taps]
        return sorted({self.column(p, kx) for p, kx in taps})

    @property
    def apart(self) -> int:
        """Columns of words from one output to the next."""
        return self.stride[1] // self.pitch

    @property
    def advance(self) -> int:
        """Columns of words from one group of ``pixels`` outputs to the next."""
        return self.pixels * self.apart

    @property
    def kept(self) -> list[int]:
        """Columns that the group of outputs before has, too: ``advance`` further there."""
        return [q for q in self.columns if q + self.advance in self.columns]

    @property
    def segment(self) -> int:
        """Outputs of a row whose input columns are interleaved together."""
        columns = max(SEGMENT_WORDS // self.words - (self.span - self.apart), 0)
        return max(self.pixels, columns // self.apart // self.pixels * self.pixels)

    @property
    def segment_columns(self) -> int:
        """Columns of words of a segment."""
        return (self.segment - 1) * self.apart + self.span

    # --- weights -------------------------------------------------------------------------------

    def operands(self, columns: list[list[Value]], row: int, kx: int) -> list[Value]:
        """The words of weights [16] of an output row for taps from kernel column ``kx`` on.

        ``columns`` are those of the kernel as tall words.
        """
        tall = [self._moved(column, row) for column in columns[kx : kx + self.word[1]]]
        return tall[0] if self.word == TALL else self._squared(tall)

    def _moved(self, words: list[Value], row: int) -> list[Value]:
        """The tall words of one column for an output row, from those of row 0."""
        zero = words[0].b.i32(0, words[0].lanes)
        whole, bits = divmod(8 * row * self.stride[0], 32)
        count = -(-self.in_rows // TALL[0])
        source = [*[zero] * (whole + 1), *words, *[zero] * count]
        if not bits:
            return source[1 : count + 1]
        return [
            (source[i + 1] << bits) | source[i].shift_right_logical(32 - bits) for i in range(count)
        ]

    def _squared(self, columns: list[list[Value]]) -> list[Value]:
        """Words of two by two from the tall ones of two columns, or of the last one."""
        left, right = columns if len(columns) == 2 else (columns[0], None)
        words: list[Value] = []
        for i, first in enumerate(left):
            second = right[i] if right else first.b.i32(0, first.lanes)
            words.append((first & LOW_HALF) | (second << 16))
            words.append(first.shift_right_logical(16) | (second & ~LOW_HALF))
        return words[: self.words]


def blocks_of(channels: int) -> tuple[int, ...]:
    """Sizes of the blocks of channels, each used as long as the next is not better."""
    if channels <= MOST_SCATTERED:
        return (LANES,)
    rest = channels % (VECTORS * LANES)
    broad = VECTORS * LANES
    return (broad, LANES) if 0 < rest <= MOST_SCATTERED else (broad,)


def pixels_of(width: int) -> int:
    """Outputs of a row of ``width`` to compute at a time: so that few of the last are too many."""
    return min(BLOCK_PIXELS, key=lambda pixels: -width % pixels)
