"""The dot products of a tile of a matrix product: sums of some rows over all of K, in registers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from uqfc.codegen.builder import Builder
from uqfc.codegen.isa.dot import Dot, Operand
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
    """Sums in a function that has the parameters of a ``Tile`` and is given its fields."""

    def __init__(self, b: Builder, dot: Dot, vectors: int, lanes: int) -> None:
        self.b = b
        self.dot = dot
        self.vectors = vectors
        self.lanes = lanes

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

    def beside(self, a: Pointer, rows: int, overlap: int, pieces: Sequence[Piece]) -> list[Value]:
        """``of``, with ``pieces`` of other work among the first ``overlap`` groups of four K."""
        b = self.b
        state: list[Any] = [*self._addends() * rows, b.pointer("weights")]
        inner = [*state, *row_pointers(b, a, rows, b.i64(0))]
        places = rows * overlap
        ends = [len(pieces) * place // places for place in range(places + 1)]
        among = [pieces[first:end] for first, end in pairwise(ends)]
        for i in range(overlap):
            self._steps(inner, rows * self.vectors, rows, 1, among[i * rows : (i + 1) * rows])
        self._rest(inner, rows * self.vectors, rows, b.value("steps") - overlap)
        state[:] = inner[: len(state)]
        self._segments(state, a, rows, b.i64(1))
        return state[:-1]

    def _segments(self, state: list[Any], a: Pointer, rows: int, first: Value) -> None:
        """The segments from ``first`` on; ``state``: the sums and the weights, which move on."""
        b, sums, steps = self.b, len(state) - 1, self.b.value("steps")
        chains = sums // (rows * self.vectors)
        with b.loop(first, b.value("segments"), carry=state) as segment:
            inner = [*state, *row_pointers(b, a, rows, segment)]
            done = b.i64(0)
            if chains > 1:
                done = steps & ~(chains - 1)
                with b.loop(0, done, chains, carry=inner):
                    self._steps(inner, sums, rows, chains)
            self._rest(inner, sums, rows, steps - done)
            state[:] = inner[: len(state)]

    def _rest(self, state: list[Any], sums: int, rows: int, left: Value) -> None:
        """The last steps, one by one."""
        with self.b.loop(0, left, carry=state):
            self._steps(state, sums, rows, 1)

    def _steps(
        self,
        state: list[Any],
        sums: int,
        rows: int,
        count: int,
        among: Sequence[Sequence[Piece]] = (),
    ) -> None:
        """``count`` groups of four K, each added to another chain of sums.

        ``state``: the sums, the weights, the pointers to the rows; the pointers move on. ``among``:
        other work, for after each row.
        """
        lda = self.b.value("lda")
        outputs = rows * self.vectors
        panel: Pointer = state[sums]
        pointers: list[Pointer] = state[sums + 1 :]
        panel_step = 64 * self.vectors * self.dot.words
        groups = [self._weights(panel + panel_step * i) for i in range(count)]
        for row in range(rows):
            pointer = pointers[row // ROWS_PER_POINTER] + lda * (row % ROWS_PER_POINTER)
            words = [self.dot.broadcast(pointer.load_i32(4 * i, 0)) for i in range(count)]
            for v in range(self.vectors):
                for chain, (word, group) in enumerate(zip(words, groups, strict=True)):
                    place = chain * outputs + row * self.vectors + v
                    state[place] = self.dot.add(state[place], word, group[v])
            for piece in among[row] if among else ():
                piece()
        state[sums:] = [panel + panel_step * count, *(p + 4 * count for p in pointers)]

    def _weights(self, panel: Pointer) -> list[Operand]:
        """Of each vector, the weights of a group."""
        vectors, words = self.vectors, range(self.dot.words)
        return [
            self.dot.weight(
                tuple(panel.load_i32(64 * (vectors * word + v), self.lanes) for word in words)
            )
            for v in range(vectors)
        ]

    def _addends(self) -> list[Value]:
        """Of each vector."""
        addend = self.b.pointer("addend")
        return [addend.load_i32(v * 64, self.lanes) for v in range(self.vectors)]
