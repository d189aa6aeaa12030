"""The dot products of a tile of a matrix product: sums of some rows over all of K, in registers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal, TypeAlias

from uqfc.codegen.builder import Builder
from uqfc.codegen.isa.dot import Dot, Operand
from uqfc.codegen.kernels.writing import Piece
from uqfc.codegen.vector import LANES, Pointer, Value

Source: TypeAlias = Literal["s8", "s4", "s16", "u4"]

LOW_NIBBLES = 0x0F0F0F0F
ALL_BYTES = 0x01010101
ROWS_PER_POINTER = 3
"""Rows that are reached from one pointer: x86 addresses scale a stride by 1 and 2."""


class TileSums:
    """Sums in a function that has the parameters of a ``Tile`` and is given its fields."""

    def __init__(self, b: Builder, dot: Dot, vectors: int, lanes: int, source: Source) -> None:
        self.b = b
        self.dot = dot
        self.vectors = vectors
        self.lanes = lanes
        self.source = source

    @property
    def group(self) -> int:
        """K per step."""
        return 8 if self.source == "u4" else 4

    def of(self, a: Pointer, rows: int) -> list[Value]:
        """Sums of ``rows`` rows, row after row; few rows have several chains of additions."""
        b = self.b
        outputs = rows * self.vectors
        chains = max(1, min(4, b.isa.accumulators // outputs))
        zero = b.i32(0, self.lanes)
        sums = self._addends(a) * rows + [zero] * (outputs * (chains - 1))
        state: list[Any] = [*sums, b.pointer("weights")]
        self._segments(state, a, rows, b.i64(0))
        totals = state[:outputs]
        for chain in range(1, chains):
            part = state[chain * outputs : (chain + 1) * outputs]
            totals = [total + more for total, more in zip(totals, part, strict=True)]
        return totals

    def beside(self, a: Pointer, rows: int, overlap: int, pieces: Sequence[Piece]) -> list[Value]:
        """``of``, with ``pieces`` of other work among the first ``overlap`` groups of four K."""
        b = self.b
        state: list[Any] = [*self._addends(a) * rows, b.pointer("weights")]
        inner = [*state, *self._rows(a, rows, b.i64(0))]
        places = rows * overlap
        ends = [len(pieces) * place // places for place in range(places + 1)]
        among = [pieces[first:end] for first, end in pairwise(ends)]
        for i in range(overlap):
            self._steps(inner, rows * self.vectors, rows, 1, among[i * rows : (i + 1) * rows])
        self._rest(inner, rows * self.vectors, rows, b.value("steps") - overlap)
        state[:] = inner[: len(state)]
        self._segments(state, a, rows, b.i64(1))
        return state[:-1]

    def _rows(self, a: Pointer, rows: int, segment: Value) -> list[Pointer]:
        """Where every ``ROWS_PER_POINTER`` th row starts in a segment."""
        start = a + self.b.pointer("offsets").load("i64", segment * 8, 0)
        lda = self.b.value("lda")
        return [start + lda * row for row in range(0, rows, ROWS_PER_POINTER)]

    def _segments(self, state: list[Any], a: Pointer, rows: int, first: Value) -> None:
        """The segments from ``first`` on; ``state``: the sums and the weights, which move on."""
        b, sums, steps = self.b, len(state) - 1, self.b.value("steps")
        chains = sums // (rows * self.vectors)
        unroll = max(1, chains * self.dot.together // (self.group // 4))
        with b.loop(first, b.value("segments"), carry=state) as segment:
            inner = [*state, *self._rows(a, rows, segment)]
            done = b.i64(0)
            if unroll > 1:
                done = steps & ~(unroll - 1)
                with b.loop(0, done, unroll, carry=inner):
                    self._steps(inner, sums, rows, unroll)
            self._rest(inner, sums, rows, steps - done)
            state[:] = inner[: len(state)]

    def _rest(self, state: list[Any], sums: int, rows: int, left: Value) -> None:
        """The last steps, two by two where that is cheaper."""
        b = self.b
        together = 2 if self.dot.together > 2 and self.group == 4 else 1
        for count in range(together, 0, -1):
            with b.loop(count - 1, left, count, carry=state):
                self._steps(state, sums, rows, count)
            left = left & (count - 1)

    def _steps(
        self,
        state: list[Any],
        sums: int,
        rows: int,
        count: int,
        among: Sequence[Sequence[Piece]] = (),
    ) -> None:
        """``count`` groups of four K (of eight, if nibbles), one chain of sums after the other.

        ``state``: the sums, the weights, the pointers to the rows; the pointers move on. ``among``:
        other work, for after each row.
        """
        lda = self.b.value("lda")
        outputs = rows * self.vectors
        chains = sums // outputs
        panel: Pointer = state[sums]
        pointers: list[Pointer] = state[sums + 1 :]
        panel_step = 64 * self.vectors * self.dot.words
        groups = [g for i in range(count) for g in self._weights(panel + panel_step * i)]
        for row in range(rows):
            pointer = pointers[row // ROWS_PER_POINTER] + lda * (row % ROWS_PER_POINTER)
            words = [self.dot.broadcast(pointer.load_i32(4 * i, 0)) for i in range(len(groups))]
            for v in range(self.vectors):
                weights = [group[v] for group in groups]
                for chain in range(min(chains, len(groups))):
                    place = chain * outputs + row * self.vectors + v
                    own = slice(chain, None, chains)
                    state[place] = self.dot.sum(state[place], words[own], weights[own])
            for piece in among[row] if among else ():
                piece()
        state[sums:] = [panel + panel_step * count, *(p + self.group * count for p in pointers)]

    def _weights(self, panel: Pointer) -> list[list[Operand]]:
        """Per four K of the step, per vector, the weights."""
        vectors = self.vectors
        words = self.dot.words
        loaded = [
            tuple(panel.load_i32(64 * (vectors * word + v), self.lanes) for word in range(words))
            for v in range(vectors)
        ]
        if self.source != "u4":
            return [[self.dot.weight(w) for w in loaded]]
        low = [self.dot.weight((w[0] & LOW_NIBBLES,)) for w in loaded]
        high = [self.dot.weight((w[0].shift_right_logical(4) & LOW_NIBBLES,)) for w in loaded]
        return [low, high]

    def _addends(self, a: Pointer) -> list[Value]:
        """Of each vector, with the zero point of nibbles applied to the sum of activations."""
        b = self.b
        vectors = range(self.vectors)
        addends = [b.pointer("addend").load_i32(v * 64, self.lanes) for v in vectors]
        if self.source != "u4":
            return addends
        zero_points = [
            b.pointer("zero_points").load_u8_as_i32(v * LANES, self.lanes) for v in vectors
        ]
        total = self._activation_sum(a)
        return [addend - z * total for addend, z in zip(addends, zero_points, strict=True)]

    def _activation_sum(self, a: Pointer) -> Value:
        """The sum of the activations that the steps read: 64 at a time, then 8."""
        b = self.b
        ones = self.dot.weight((b.i32(ALL_BYTES, LANES),))
        count = b.value("steps") * 8
        wide = [b.i32(0, LANES)]
        with b.loop(0, count & ~63, 64, carry=wide) as k:
            wide[0] = self.dot.add(wide[0], self.dot.activation(a.load_i32(k)), ones)
        narrow = [b.i32(0, 8)]
        with b.loop(count & ~63, count, 8, carry=narrow) as k:
            narrow[0] = narrow[0] + a.load_u8_as_i32(k, 8)
        return b.tree_sum(wide[0]) + b.tree_sum(narrow[0])
