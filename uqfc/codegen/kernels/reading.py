"""How the tiles of a product come by its weights.

Most weights are applied to so many rows that they are best prepared once: narrow ones are expanded
to int8, and after the first few rows they are all in a near cache. Where rows are few, each panel
comes from far away and is soon done with. Then the next one is prefetched among the dot products
of this one, and narrow weights are decoded in registers, where that costs little, rather than
expanded in memory.
"""

from __future__ import annotations

from dataclasses import dataclass

from uqfc.codegen.builder import Builder
from uqfc.codegen.kernels.tensor import larger, smaller
from uqfc.codegen.vector import Value
from uqfc.packing import NARROW_BITS, PanelLayout

ROWS_BYTES = 256 * 1024
"""Rows of that size stay in a second level cache while one panel after the other is applied."""
LEAST_BYTES = 40 * 1024
"""Smaller weights may be in the second level cache from the last call. Prefetching them costs more
than it saves, and decoding them saves less than the time to compile one more kind of tile is worth.
"""
MOST_ROWS = 100
"""More rows would decode weights too often."""


@dataclass(frozen=True)
class Shares:
    """Bytes of what is ahead that are prefetched during a chunk of lines, a tile, a group of K."""

    chunk: Value
    tile: Value
    step: Value

    @staticmethod
    def of(b: Builder, size: Value, tile_rows: int, overlap: int) -> Shares:
        """Of ``size`` bytes, in a function with the parameters of a ``Product``.

        What a tile overlaps, and the first tile of a chunk, prefetch nothing.
        """
        lines = b.value("lines")
        together = smaller(b.value("chunk"), lines)
        chunk = size // ((lines + together - 1) // together)
        tiles = b.value("pixels") // tile_rows * together - 1
        tile = chunk // larger(tiles, b.i64(1))
        return Shares(chunk, tile, tile // (b.value("segments") * b.value("steps") - overlap))


@dataclass(frozen=True)
class Reading:
    """What the tiles of a product do beside its dot products, where they overlap."""

    prefetch: bool = False
    """The next panel is on its way while this one is applied."""
    bits: int = 8
    """Of narrow weights that are decoded in registers; 8: weights are int8 in memory by then."""

    @property
    def parts(self) -> int:
        """Groups of four K in a word of a channel."""
        return 8 // self.bits

    @property
    def name(self) -> str:
        """``p``, ``d4``, ``pd4``; nothing of weights that are int8 and not prefetched."""
        return ("p" if self.prefetch else "") + (f"d{self.bits}" if self.bits < 8 else "")

    def fits(self, layout: PanelLayout, overlap: int) -> bool:
        """Whether tiles that overlap so far can read such weights.

        Something must be left to prefetch beside; what is decoded must be whole words.
        """
        steps = -(-layout.segment_k // 4)
        if overlap > steps or (self.prefetch and overlap == steps * layout.segments):
            return False
        if self.bits == 8:
            return True
        narrow = NARROW_BITS.get(layout.storage) == self.bits
        return narrow and layout.segments == 1 and steps % self.parts == overlap % self.parts == 0

    def parameters(self) -> dict[str, str]:
        """Names and kinds of a tile's parameters.

        ``ahead``: what is prefetched next, ``ahead_tile`` bytes for each tile, ``ahead_step`` for
        each group of K. ``zero_points``: u8, of the panel's channels.
        """
        parameters: dict[str, str] = {}
        if self.prefetch:
            parameters |= {"ahead": "ptr", "ahead_tile": "i64", "ahead_step": "i64"}
        return parameters | ({"zero_points": "ptr"} if self.bits < 8 else {})


PLAIN = Reading()


def reading_of(layout: PanelLayout, rows: int, rows_bytes: int, overlap: int) -> Reading:
    """How to read the weights of a product of so many rows.

    ``rows_bytes``: of their inputs and outputs; ``overlap``: as in ``Tile``.
    """
    if rows_bytes > ROWS_BYTES:
        return PLAIN
    steps = layout.segments * -(-layout.segment_k // 4)
    if not 0 < overlap < steps or layout.group_bytes < LEAST_BYTES:
        return PLAIN
    prefetch = layout.n > layout.panel
    decoding = Reading(prefetch, NARROW_BITS.get(layout.storage, 8))
    decodes = rows <= MOST_ROWS and decoding.fits(layout, overlap)
    return decoding if decodes else Reading(prefetch)
