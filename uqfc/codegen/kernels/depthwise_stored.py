"""Input columns of a depthwise convolution that are interleaved before they are used.

Those of a segment of a row, of up to four groups of 16 channels. Words of two by two pixels that
the next step begins with stay where they are: a word takes the place of the one that is no longer
needed.
"""

from __future__ import annotations

from typing import Any

from uqfc.codegen.builder import Builder
from uqfc.codegen.isa.dot import Dot, Operand
from uqfc.codegen.isa.interleave import (
    interleave,
    interleave_wide,
    interleaves_wide,
    pairs_wide,
    words_wide,
)
from uqfc.codegen.kernels.depthwise_columns import Columns, HeldColumns, Step
from uqfc.codegen.kernels.depthwise_geometry import SQUARE, TALL, Geometry
from uqfc.codegen.vector import LANES, VECTOR_BYTES, Pointer, Value

WIDE_GROUPS = 4
"""Groups of 16 channels that are interleaved together where that is cheaper."""


class StoredColumns(Columns):
    """The columns of a segment in the stack frame: ``[word][group][column]``.

    The state is the addresses of the block's first column, one for each word.
    """

    def __init__(self, b: Builder, geometry: Geometry, dot: Dot) -> None:
        super().__init__(b, geometry, dot)
        self.column_bytes = VECTOR_BYTES * len(dot.activation(b.i32(0, LANES)))
        self.group_bytes = self.column_bytes * geometry.segment_columns
        self.word_bytes = self.group_bytes * self.most_groups
        self.memory = b.stack(self.word_bytes * geometry.words)
        self.places: list[Pointer] = []

    @property
    def most_groups(self) -> int:
        return WIDE_GROUPS if interleaves_wide(self.b.isa) else 1

    @property
    def segment(self) -> Value:
        return self.b.i64(self.geometry.segment)

    def blocks(self, groups: Value) -> Value:
        return groups

    def prepare(self, step: Step, groups: Value) -> None:
        b, g = self.b, self.geometry
        self.places = [self._place(step, word) for word in range(g.words)]
        if g.word == SQUARE:
            with b.loop(b.select(step.begins, b.i64(0), b.i64(g.again)), g.words) as word:
                rows = [step.row(word * g.word[0] + i) for i in range(g.word[0])]
                self._interleave(self._place(step, word), rows, step, groups)
            return
        for word in range(g.words):
            rows = range(g.word[0] * word, min(g.word[0] * (word + 1), g.in_rows))
            self._interleave(self.places[word], [step.row(i) for i in rows], step, groups)

    def start(self, step: Step, group: Value) -> list[Any]:
        return [place + group * self.group_bytes for place in self.places]

    def operand(self, state: list[Any], column: int, word: int, group: int) -> Operand:
        place = state[word] + column * self.column_bytes
        sizes = range(0, self.column_bytes, VECTOR_BYTES)
        return tuple(place.load("i32", offset, align=VECTOR_BYTES) for offset in sizes)

    def advance(self, state: list[Any]) -> list[Any]:
        return [place + self.geometry.advance * self.column_bytes for place in state]

    @property
    def one_by_one(self) -> bool:
        """Registers hold little more than one output and its operands."""
        return self.most_groups == 1

    def pixel(self, state: list[Any], p: Value) -> list[Any]:
        """The state as if pixel ``p`` of the block were its first."""
        return [place + p * (self.geometry.apart * self.column_bytes) for place in state]

    def _place(self, step: Step, word: Value | int) -> Pointer:
        """Where a word of the step's columns is."""
        g = self.geometry
        if g.word == TALL:
            return self.memory + word * self.word_bytes
        number = (step.y * g.stride[0]).shift_right_logical(1) + word
        return self.memory + (number - number // g.words * g.words) * self.word_bytes

    def _interleave(self, place: Pointer, rows: list[Pointer], step: Step, groups: Value) -> None:
        """One word of the columns of up to four groups of channels."""
        if self.most_groups == 1:
            self._narrow(place, rows, step)
            return
        with self.b.if_else(groups.eq(1)) as (single, several):
            with single:
                self._narrow(place, rows, step)
            with several:
                self._wide(place, rows, step)

    def _columns(self, step: Step) -> Value:
        """Columns of words of the outputs of the step."""
        return (step.count - 1) * self.geometry.apart + self.geometry.span

    def _narrow(self, place: Pointer, rows: list[Pointer], step: Step) -> None:
        """Columns of one group of channels."""
        g = self.geometry
        with self.b.loop(0, self._columns(step)) as column:
            x = step.left + column * g.pitch
            loads = [load for i in range(g.word[1]) for load in self._load(rows, x + i, LANES)]
            self._store(place, column, interleave(loads))

    def _wide(self, place: Pointer, rows: list[Pointer], step: Step) -> None:
        """Columns of four groups of channels."""
        b, g = self.b, self.geometry
        lanes = LANES * WIDE_GROUPS
        shared = g.word == SQUARE and g.pitch == 1
        pair = pairs_wide(*self._load(rows, step.left, lanes)) if shared else []
        with b.loop(0, self._columns(step), carry=pair) as column:
            x = step.left + column * g.pitch
            if shared:
                right = pairs_wide(*self._load(rows, x + 1, lanes))
                words = words_wide(pair, right)
                pair[:] = right
            else:
                columns = [self._load(rows, x + i, lanes) for i in range(g.word[1])]
                words = interleave_wide([load for loads in columns for load in loads])
            for group, word in enumerate(words):
                self._store(place + group * self.group_bytes, column, word)

    def _load(self, rows: list[Pointer], x: Value, lanes: int) -> list[Value]:
        """Column ``x`` of each row, or padding if it is outside the image."""
        b = self.b
        inside, offset = x.below(b.value("width")), x * b.value("channels")
        padding = b.pointer("padding")
        return [b.select(inside, row + offset, padding).load("i8", 0, lanes) for row in rows]

    def _store(self, place: Pointer, column: Value, word: Value) -> None:
        target = place + column * self.column_bytes
        for i, value in enumerate(self.dot.activation(word)):
            target.store(value, i * VECTOR_BYTES, align=VECTOR_BYTES)


def columns_for(b: Builder, geometry: Geometry, dot: Dot, *, in_lanes: bool) -> Columns:
    """The better way for a geometry: machines with few registers hold no columns.

    ``in_lanes``: see ``HeldColumns``.
    """
    if geometry.is_held and interleaves_wide(b.isa):
        return HeldColumns(b, geometry, dot, in_lanes=in_lanes)
    return StoredColumns(b, geometry, dot)
