"""Weights of a depthwise convolution as operands of the dot product, for each output row of a step.

They are prepared for some groups of 16 channels at a time, in the stack frame:
``[group][output row][column][word]``, and after those of a group its addends and multipliers.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from uqfc.codegen.builder import Builder
from uqfc.codegen.isa.dot import Dot, Operand
from uqfc.codegen.isa.interleave import transpose_lanes
from uqfc.codegen.kernels.depthwise_geometry import VECTORS, Geometry
from uqfc.codegen.kernels.narrow import decoded, zero_bytes
from uqfc.codegen.kernels.tensor import smaller
from uqfc.codegen.vector import LANES, VECTOR_BYTES, Pointer, Value
from uqfc.packing import NARROW_BITS, Storage

MOST_HELD = 6
"""Registers of weights that stay there along a row."""

Place = tuple[int, int, int]
"""Output row, first kernel column, word."""


class Weights:
    """The operands of at most ``groups`` groups. The function has ``weights`` and ``channels``."""

    def __init__(
        self,
        b: Builder,
        geometry: Geometry,
        dot: Dot,
        storage: Storage,
        groups: int,
        *,
        multipliers: bool,
    ) -> None:
        self.b = b
        self.geometry = geometry
        self.dot = dot
        self.storage: Storage = storage
        self.arrays = ("addend", "multiplier") if multipliers else ("addend",)
        self.column_words = -(-geometry.kernel[0] // 4)
        self.operand_bytes = VECTOR_BYTES * len(dot.weight((b.i32(0, LANES),) * dot.words))
        self.places: list[Place] = [
            (row, kx, word)
            for row in range(geometry.rows)
            for kx in geometry.taps
            for word in range(geometry.words)
            if geometry.uses(row, word)
        ]
        self.row_bytes = len(self.places) // geometry.rows * self.operand_bytes
        self.constants = len(self.places) * self.operand_bytes
        self.group_bytes = self.constants + 2 * VECTOR_BYTES
        self.memory = b.stack(groups * self.group_bytes)

    def prepare(self, channel: Value, groups: Value, *, in_lanes: bool = False) -> None:
        """The weights of ``groups`` groups from ``channel`` on.

        ``in_lanes``: channels of four groups are in the order of ``interleave_lanes``; groups that
        do not exist are the last one.
        """
        b = self.b
        if in_lanes:
            firsts = [channel + smaller(groups - 1, i) * LANES for i in range(VECTORS)]
            for vectors in zip(*map(self._group, firsts), strict=True):
                values = transpose_lanes([vector for _, vector in vectors])
                for i, value in enumerate(values):
                    offset = i * self.group_bytes + vectors[0][0]
                    self.memory.store(value, offset, align=VECTOR_BYTES)
            return
        with b.loop(0, groups) as group:
            target = self.memory + group * self.group_bytes
            for offset, value in self._group(channel + group * LANES):
                target.store(value, offset, align=VECTOR_BYTES)

    def addend(self, group: Pointer) -> Value:
        return group.load("i32", self.constants, align=VECTOR_BYTES)

    def multiplier(self, group: Pointer) -> Value | None:
        if len(self.arrays) == 1:
            return None
        return group.load("f32", self.constants + VECTOR_BYTES, align=VECTOR_BYTES)

    def load(self, group: Pointer, place: Place) -> Operand:
        """The weights at ``place`` of the group at that address."""
        start = self.places.index(place) * self.operand_bytes
        sizes = range(0, self.operand_bytes, VECTOR_BYTES)
        return tuple(group.load("i32", start + offset, align=VECTOR_BYTES) for offset in sizes)

    def held(self, group: Pointer) -> dict[Place, Operand]:
        """All weights of a group if registers can hold them, else none."""
        if self.constants > MOST_HELD * VECTOR_BYTES:
            return {}
        return {place: self.load(group, place) for place in self.places}

    def _group(self, channel: Value) -> Iterator[tuple[int, Value]]:
        """Vectors of a group of 16 channels, and where each is in the memory of the group."""
        g, size = self.geometry, self.column_words
        stored = self._stored_words(channel)
        starts = range(0, len(stored), size)
        columns = [
            [[word[i] for word in stored[start : start + size]] for start in starts]
            for i in range(self.dot.words)
        ]
        for row, kx in product(range(g.rows), g.taps):
            parts = [g.operands(part, row, kx) for part in columns]
            for word, values in enumerate(zip(*parts, strict=True)):
                if g.uses(row, word):
                    start = self.places.index((row, kx, word)) * self.operand_bytes
                    for i, value in enumerate(self.dot.weight(values)):
                        yield start + VECTOR_BYTES * i, value
        for i, name in enumerate(self.arrays):
            values = self.b.pointer(name).load_i32(channel * 4)
            yield self.constants + i * VECTOR_BYTES, values

    def _stored_words(self, channel: Value) -> list[tuple[Value, ...]]:
        """The packed words of 16 channels [columns * column_words], narrow weights as int8."""
        b, groups = self.b, self.geometry.kernel[1] * self.column_words
        if self.storage not in NARROW_BITS:
            size = VECTOR_BYTES * self.dot.words
            panel = b.pointer("weights") + channel * (groups * size // LANES)
            return [
                tuple(
                    panel.load_i32(group * size + VECTOR_BYTES * i) for i in range(self.dot.words)
                )
                for group in range(groups)
            ]
        bits = NARROW_BITS[self.storage]
        packs = -(-groups * bits // 8)
        padded = (b.value("channels") + (LANES - 1)) & ~(LANES - 1)
        zeros = zero_bytes(b.pointer("weights") + padded * (packs * 4), channel)
        panel = b.pointer("weights") + channel * (packs * 4)
        parts: list[Value] = []
        for pack in range(packs):
            packed = panel.load_i32(VECTOR_BYTES * pack)
            parts += [decoded(packed, bits, part, zeros) for part in range(8 // bits)]
        return [(part.bitcast("i32", LANES),) for part in parts[:groups]]
