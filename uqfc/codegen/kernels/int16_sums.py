"""Sums of a tile in int16, where ``vpmaddubsw`` is the fastest product (AVX2 without VNNI).

``vpmaddubsw`` gives sums of two products, u8 by int8 with |w| <= 15, as int16. They are added as
int16 for as many steps of four K as the weights of a layer prove possible (``longest_run``), often
for all of K, and widened to int32 after such a *run*. What the runs before the last one add up to
is in memory, where else the addends are read: that keeps registers for the sums in int16.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from uqfc.codegen.builder import Builder
from uqfc.codegen.isa import Isa
from uqfc.codegen.isa.dot import SUMS_OF_PAIRS, add_pairs, dot_for
from uqfc.codegen.kernels.tensor import smaller
from uqfc.codegen.kernels.tile_sums import ROWS_PER_POINTER, row_pointers
from uqfc.codegen.vector import Pointer, Value
from uqfc.packing import I32, PanelLayout, round_up

MOST_WEIGHT = 32767 // 255
"""Sum of weights of one sign for which int16 holds the sum of their products with any u8."""
UNROLLED = 2
"""Steps of a turn of the inner loop."""


def sums_in_int16(isa: Isa, source: str) -> bool:
    """Whether tiles of weights that are stored as ``source`` (see ``Tile``) do."""
    return source == "s4" and dot_for(isa, "s4").products is not None


def longest_run(layout: PanelLayout, weights: I32, zero_points: I32) -> int:
    """Steps of four K for which int16 holds all sums of pairs, whatever the activations.

    ``weights`` [groups * n, k] and ``zero_points`` [groups * n] as in ``PanelLayout.pack``. Runs
    start at the first step of a segment, unless one run is all of K.
    """
    channels, segments = len(weights), layout.segments
    steps = -(-layout.segment_k // 4)
    padded = np.zeros((channels, segments, steps * 4), np.int32)
    values = (weights - zero_points[:, None]).reshape(channels, segments, -1)
    padded[..., : layout.segment_k] = values
    pairs = padded.reshape(channels, segments, steps, 2, 2)
    signs = (np.maximum(pairs, 0), np.maximum(-pairs, 0))
    sums = np.stack([sign.sum(axis=-1, dtype=np.int32) for sign in signs])
    for run in _candidates(segments, steps):
        whole = run >= segments * steps
        lines = sums.reshape(2, channels, 1, -1, 2) if whole else sums
        starts = range(0, lines.shape[3], run)
        worst = np.add.reduceat(lines, starts, axis=3, dtype=np.int32).max(initial=0)
        if worst <= MOST_WEIGHT:
            return run
    return SUMS_OF_PAIRS


def _candidates(segments: int, steps: int) -> Iterable[int]:
    """Lengths of runs, longest first, each once: all of K, then equal parts of a segment."""
    whole, parts = segments * steps, range(1, steps // SUMS_OF_PAIRS + 1)
    equal = [min(whole, round_up(-(-steps // part), UNROLLED)) for part in parts]
    return dict.fromkeys([whole, *equal])


class Int16Sums:
    """The sums of some rows by ``vectors`` vectors of ``lanes`` channels of a ``Tile``.

    In a function with the parameters of a tile, ``int16_steps`` among them: the length of runs.
    """

    def __init__(self, b: Builder, vectors: int, lanes: int) -> None:
        self.b = b
        self.dot = dot_for(b.isa, "s4")
        assert self.dot.products is not None
        self.products = self.dot.products
        self.vectors = vectors
        self.lanes = lanes

    def of(self, a: Pointer, rows: int) -> list[Value]:
        """Sums with their addends, int32, row after row."""
        b, run, steps = self.b, self.b.value("int16_steps"), self.b.value("steps")
        outputs = rows * self.vectors
        stored = b.stack(outputs * self.lanes * 4)
        splits = run.lt(steps * b.value("segments"))
        pointers = row_pointers(b, a, rows, b.i64(0))
        start: list[Any] = [*[None] * outputs, b.pointer("weights"), b.pointer("addend"), b.i64(0)]
        start += pointers
        self._steps(start, rows, 1)
        state: list[Any] = start[: -len(pointers)]
        with b.loop(0, b.value("segments"), carry=state) as segment:
            done = b.select(segment.eq(0), b.i64(1), b.i64(0))
            inner: list[Any] = [*state, *row_pointers(b, a + done * 4, rows, segment)]
            with b.loop(0, steps, run, carry=inner) as first:
                later = splits & (segment | first).ne(0)
                with b.loop(0, later.zext("i64"), carry=inner):
                    self._widen(inner, outputs, stored)
                begin = b.select(later, b.i64(0), done)
                self._run(inner, rows, begin, smaller(steps - first, run))
            state[:] = inner[: len(state)]
        return self._totals(state, outputs)

    def _run(self, state: list[Any], rows: int, begin: Value, end: Value) -> None:
        """Steps ``begin … end - 1`` of a run."""
        b = self.b
        unrolled = end - ((end - begin) & (UNROLLED - 1))
        with b.loop(begin, unrolled, UNROLLED, carry=state):
            self._steps(state, rows, UNROLLED)
        with b.loop(unrolled, end, carry=state):
            self._steps(state, rows, 1)

    def _steps(self, state: list[Any], rows: int, count: int) -> None:
        """``state``: the sums, the weights, where the addends are and how far apart, the rows."""
        b, vectors, outputs = self.b, self.vectors, rows * self.vectors
        panel: Pointer = state[outputs]
        pointers: list[Pointer] = state[outputs + 3 :]
        lda = b.value("lda")
        for step in range(count):
            weights = [
                self.dot.weight((panel.load_i32(64 * vectors * step + 64 * v, self.lanes),))
                for v in range(vectors)
            ]
            for row in range(rows):
                pointer = pointers[row // ROWS_PER_POINTER] + lda * (row % ROWS_PER_POINTER)
                word = self.dot.activation(pointer.load_i32(4 * step, 0).splat(self.lanes))
                for v in range(vectors):
                    place = row * vectors + v
                    products, before = self.products(word, weights[v]), state[place]
                    state[place] = products if before is None else before + products
        state[outputs] = panel + 64 * vectors * count
        state[outputs + 3 :] = [p + 4 * count for p in pointers]

    def _widen(self, state: list[Any], outputs: int, stored: Pointer) -> None:
        """Sums to memory."""
        size = self.lanes * 4
        for place, total in enumerate(self._totals(state, outputs)):
            stored.store(total, place * size)
        zero = self.b.constant("i16", 0, 2 * self.lanes)
        state[:outputs] = [zero] * outputs
        state[outputs + 1 : outputs + 3] = [stored, self.b.i64(self.vectors * size)]

    def _totals(self, state: list[Any], outputs: int) -> list[Value]:
        addends, stride = state[outputs + 1 : outputs + 3]
        totals: list[Value] = []
        for place in range(outputs):
            row, v = divmod(place, self.vectors)
            before = (addends + stride * row).load_i32(v * self.lanes * 4, self.lanes)
            totals.append(before + add_pairs(state[place]))
        return totals
