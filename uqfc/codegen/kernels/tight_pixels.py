"""Windows of three by three pixels of three bytes, two pixels apart, in 7 words instead of 9.

A row of a window is nine adjacent bytes: two words, and one more byte. The last bytes of the three
rows are a word that is made for each window of a line before the line is computed.
"""

from __future__ import annotations

from collections.abc import Sequence

from uqfc.codegen.builder import Builder
from uqfc.codegen.vector import LANES, Pointer, Value

ROWS = COLUMNS = 3
STRIDE = 2
PIXEL_BYTES = 3
ROW_WORDS = 2
"""Of a row of a window; the byte after them is its last one."""
APART = STRIDE * PIXEL_BYTES
"""Bytes from one window to the next."""
WORD = 4
"""Bytes that a dot product takes of a row."""
HALVES = 32
"""Numbers of 16 bits of a vector."""


def tight_words(words: Sequence[Value]) -> list[Value]:
    """Weights of words ``[row][column]`` of three bytes and a 0, as windows have them.

    Two words of each row, one after the other, and one of the last bytes.
    """
    rows = [words[COLUMNS * y : COLUMNS * (y + 1)] for y in range(ROWS)]
    tight: list[Value] = []
    for left, middle, right in rows:
        tight.append(left | (middle << 24))
        tight.append(middle.shift_right_logical(8) | (right << 16))
    first, second, third = (right.shift_right_logical(16) for *_, right in rows)
    return [*tight, first | (second << 8) | (third << 16)]


def store_last_bytes(b: Builder, start: Pointer, step: Value, count: Value, out: Pointer) -> None:
    """The words of last bytes of ``count`` windows, the first of which begins at ``start``.

    Rows are ``step`` bytes apart. Up to 15 more words are stored; the highest byte is any.
    """
    places = [PIXEL_BYTES * (i // 2) for i in range(HALVES)]
    with b.loop(0, count, LANES) as window:
        last = start + (window * APART + ROW_WORDS * WORD)
        picked: list[Value] = []
        for y, before in enumerate((0, 1, 0)):
            row = last + (step * y - before)
            halves = [row.load("i16", offset, HALVES) for offset in (0, 2 * HALVES)]
            picked.append(halves[0].shuffle(places, halves[1]).bitcast("i32", LANES))
        pair = (picked[0] & 0xFF) | (picked[1] & ~0xFF)
        out.store((pair & 0xFFFF) | (picked[2] & ~0xFFFF), window * WORD)
