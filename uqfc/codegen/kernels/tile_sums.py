"""The dot products of a tile of a matrix product: sums of some rows over all of K, in registers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from uqfc.codegen.builder import Builder
from uqfc.codegen.isa.dot import Dot, Operand
from uqfc.codegen.kernels.narrow import decoded, zero_bytes
from uqfc.codegen.kernels.reading import PLAIN, Reading
from uqfc.codegen.kernels.writing import Piece
from uqfc.codegen.vector import Pointer, Value

ROWS_PER_POINTER = 3
"""Rows that are reached from one pointer: x86 addresses scale a stride by 1 and 2."""


def row_pointers(b: Builder, a: Pointer, rows: int, segment: Value) -> list[Pointer]:
    """Where every ``ROWS_PER_POINTER`` th row starts in a segment, the ``segment`` th of a tile.

    In a function with the parameters of a ``Tile``.
    """
    start = a + b.pointer("offsets").load("i64", segment * 8, 0)
    lda = b.value("lda")
    return [start + lda * row for row in range(0, rows, ROWS_PER_POINTER)]


class TileSums:
    """Sums in a function that has the parameters of a ``Tile`` and is given its fields.

    To be made outside its loops.
    """

    def __init__(
        self, b: Builder, dot: Dot, vectors: int, lanes: int, reading: Reading = PLAIN
    ) -> None:
        self.b = b
        self.dot = dot
        self.vectors = vectors
        self.lanes = lanes
        self.reading = reading
        self.zeros: list[Value] = []
        """Of each vector, if weights are decoded."""
        if reading.bits < 8:
            places = range(0, vectors * lanes, lanes)
            self.zeros = [zero_bytes(b.pointer("zero_points"), place, lanes) for place in places]

    def of(self, a: Pointer, rows: int) -> list[Value]:
        """Sums of ``rows`` rows, row after row; few rows have several chains of additions."""
        b = self.b
        outputs = rows * self.vectors
        chains = max(1, min(4, b.isa.accumulators // outputs))
        zero = b.i32(0, self.lanes)
        sums = self._addends() * rows + [zero] * (outputs * (chains - 1))
        state: list[Any] = [*sums, b.pointer("weights")]
        self._segments(state, a, rows, b.i64(0))
        totals = state[:outputs]
        for chain in range(1, chains):
            part = state[chain * outputs : (chain + 1) * outputs]
            totals = [total + more for total, more in zip(totals, part, strict=True)]
        return totals

    def beside(
        self, a: Pointer, rows: int, overlap: int, pieces: Sequence[Piece], ahead: Pointer | None
    ) -> list[Value]:
        """``of``, with ``pieces`` of other work among the first ``overlap`` groups of four K.

        The others prefetch what is ``ahead``, if anything.
        """
        b, outputs, parts = self.b, rows * self.vectors, self.reading.parts
        state: list[Any] = [*self._addends() * rows, b.pointer("weights")]
        inner = [*state, *row_pointers(b, a, rows, b.i64(0))]
        places = rows * overlap
        ends = [len(pieces) * place // places for place in range(places + 1)]
        among = [pieces[first:end] for first, end in pairwise(ends)]
        for i in range(0, overlap, parts):
            self._steps(inner, outputs, rows, parts, among[i * rows : (i + parts) * rows])
        self._rest(inner, outputs, rows, b.i64(overlap), ahead)
        state[:] = inner[: len(state)]
        self._segments(state, a, rows, b.i64(1), ahead)
        return state[:-1]

    def _segments(
        self, state: list[Any], a: Pointer, rows: int, first: Value, ahead: Pointer | None = None
    ) -> None:
        """The segments from ``first`` on; ``state``: the sums and the weights, which move on."""
        b, sums, steps = self.b, len(state) - 1, self.b.value("steps")
        chains = sums // (rows * self.vectors)
        with b.loop(first, b.value("segments"), carry=state) as segment:
            inner = [*state, *row_pointers(b, a, rows, segment)]
            done = b.i64(0)
            if chains > 1:
                together = max(chains, self.reading.parts)
                done = steps & ~(together - 1)
                with b.loop(0, done, together, carry=inner):
                    self._steps(inner, sums, rows, together)
            here = ahead + segment * steps * b.value("ahead_step") if ahead is not None else None
            self._rest(inner, sums, rows, done, here)
            state[:] = inner[: len(state)]

    def _rest(
        self, state: list[Any], sums: int, rows: int, first: Value, ahead: Pointer | None
    ) -> None:
        """A segment's groups from ``first`` on, word by word."""
        b, parts = self.b, self.reading.parts
        with b.loop(first, b.value("steps"), parts, carry=state) as step:
            if ahead is not None:
                (ahead + step * b.value("ahead_step")).prefetch()
            self._steps(state, sums, rows, parts)

    def _steps(
        self,
        state: list[Any],
        sums: int,
        rows: int,
        count: int,
        among: Sequence[Sequence[Piece]] = (),
    ) -> None:
        """``count`` groups of four K, whole words, added to one chain of sums after the other.

        ``state``: the sums, the weights, the pointers to the rows; the pointers move on. ``among``:
        other work, for after each row of each group.
        """
        lda = self.b.value("lda")
        outputs = rows * self.vectors
        panel: Pointer = state[sums]
        pointers: list[Pointer] = state[sums + 1 :]
        for group in range(count):
            weights = self._weights(panel, group)
            chain = group % (sums // outputs) * outputs
            for row in range(rows):
                pointer = pointers[row // ROWS_PER_POINTER] + lda * (row % ROWS_PER_POINTER)
                word = self.dot.broadcast(pointer.load_i32(4 * group, 0))
                for v in range(self.vectors):
                    place = chain + row * self.vectors + v
                    state[place] = self.dot.add(state[place], word, weights[v])
                for piece in among[group * rows + row] if among else ():
                    piece()
        state[sums:] = [self._word(panel, count), *(p + 4 * count for p in pointers)]

    def _word(self, panel: Pointer, group: int) -> Pointer:
        """Where the words of a group are."""
        word = group // self.reading.parts
        return panel + 64 * self.vectors * self.dot.words * word

    def _weights(self, panel: Pointer, group: int) -> list[Operand]:
        """Of each vector, the weights of a group."""
        place, words, reading = self._word(panel, group), range(self.dot.words), self.reading
        operands: list[Operand] = []
        for v in range(self.vectors):
            lines = [64 * (self.vectors * word + v) for word in words]
            loaded = [place.load_i32(line, self.lanes) for line in lines]
            if self.zeros:
                part = decoded(loaded[0], reading.bits, group % reading.parts, self.zeros[v])
                loaded = [part.bitcast("i32", self.lanes)]
            operands.append(self.dot.weight(tuple(loaded)))
        return operands

    def _addends(self) -> list[Value]:
        """Of each vector."""
        addend = self.b.pointer("addend")
        return [addend.load_i32(v * 64, self.lanes) for v in range(self.vectors)]
