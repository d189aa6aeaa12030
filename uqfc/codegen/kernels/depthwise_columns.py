"""Input columns of a depthwise convolution as words, which are operands of the dot product.

Columns outside the image are words of padding. ``HeldColumns`` interleaves each column when it is
first needed and holds it in registers; ``StoredColumns`` interleaves those of a segment of a row
before they are used: better where registers cannot hold what outputs share.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from uqfc.codegen.builder import Builder
from uqfc.codegen.isa.dot import Dot, Operand
from uqfc.codegen.isa.interleave import interleave, interleave_wide, interleaves_wide
from uqfc.codegen.kernels.depthwise_geometry import Geometry
from uqfc.codegen.kernels.tensor import larger, smaller
from uqfc.codegen.vector import LANES, Pointer, Value

ALL_BYTES = 0x01010101
REGISTER = 64
"""Bytes of a vector of 16 words."""
WIDE_GROUPS = 4
"""Groups of 16 channels that are interleaved together where that is cheaper."""


class Columns(ABC):
    """Where the words come from. The function has ``width``, ``channels`` and ``pad_value``.

    ``rows`` are the addresses of the input rows, at the first channel of column 0.
    """

    def __init__(self, b: Builder, geometry: Geometry, dot: Dot) -> None:
        self.b = b
        self.geometry = geometry
        self.dot = dot
        word = (b.value("pad_value") & 0xFF) * ALL_BYTES
        self.padding = dot.activation(word.splat(LANES))

    @property
    def most_groups(self) -> int:
        """Groups of 16 channels at a time."""
        return self.geometry.groups

    def groups(self, channels: Value) -> Value:
        """How many groups to do at a time of what is left of the channels."""
        if self.most_groups == 1:
            return self.b.i64(1)
        return smaller((channels + (LANES - 1)).shift_right_logical(4), self.most_groups)

    def blocks(self, groups: Value) -> Value:
        """Times that a row is gone along for ``groups`` groups."""
        return self.b.i64(1)

    @abstractmethod
    def prepare(self, rows: list[Pointer], left: Value, count: Value, groups: Value) -> None:
        """Columns ``left … left + count - 1`` are about to be used."""

    @abstractmethod
    def start(self, rows: list[Pointer], left: Value, group: Value) -> list[Any]:
        """The state (values and pointers) of a loop over outputs, of the groups from that on."""

    @abstractmethod
    def operand(self, state: list[Any], column: int, word: int, group: int) -> Operand:
        """A word of a column of the block."""

    @abstractmethod
    def advance(self, rows: list[Pointer], state: list[Any]) -> list[Any]:
        """The state of the next block."""


class HeldColumns(Columns):
    """The columns of a block in registers; the state is their words, then the leftmost column."""

    def prepare(self, rows: list[Pointer], left: Value, count: Value, groups: Value) -> None:
        """Nothing: columns are interleaved when they are needed."""

    def start(self, rows: list[Pointer], left: Value, group: Value) -> list[Any]:
        columns = [self._column(rows, left + q) for q in self.geometry.columns]
        return [*_flat(columns), left]

    def operand(self, state: list[Any], column: int, word: int, group: int) -> Operand:
        place = self.geometry.columns.index(column)
        return self._grouped(state[:-1])[place][word * self.geometry.groups + group]

    def advance(self, rows: list[Pointer], state: list[Any]) -> list[Any]:
        g = self.geometry
        before = dict(zip(g.columns, self._grouped(state[:-1]), strict=True))
        left = state[-1] + g.advance
        columns = {q: before[q + g.advance] for q in g.kept}
        columns |= self._new(rows, left, [q for q in g.columns if q not in g.kept])
        return [*_flat([columns[q] for q in g.columns]), left]

    @property
    def _words(self) -> int:
        """Operands of a column."""
        return self.geometry.words * self.geometry.groups

    def _grouped(self, values: list[Value]) -> list[list[Operand]]:
        """Words of columns, each of all groups, from a flat list of their registers."""
        size, words = len(self.padding), self._words
        operands = [tuple(values[i : i + size]) for i in range(0, len(values), size)]
        return [operands[i : i + words] for i in range(0, len(operands), words)]

    def _new(self, rows: list[Pointer], left: Value, new: list[int]) -> dict[int, list[Operand]]:
        """Columns ``left + q``: together if all are inside, else each by itself."""
        b, pixel = self.b, self.b.value("channels")
        room = larger(b.value("width") - (new[-1] - new[0]), 0)
        with b.if_else((left + new[0]).below(room)) as (then, other):
            with then:
                start = left * pixel
                together = [self._load(rows, start + pixel * q) for q in new]
                inside = _flat(together), b.ir.block
            with other:
                single = [self._column(rows, left + q) for q in new]
                outside = _flat(single), b.ir.block
        return dict(zip(new, self._grouped(_merge(b, inside, outside)), strict=True))

    def _column(self, rows: list[Pointer], x: Value) -> list[Operand]:
        """Column ``x``, or padding if it is outside."""
        b = self.b
        with b.if_else(x.below(b.value("width"))) as (then, other):
            with then:
                inside = _flat([self._load(rows, x * b.value("channels"))]), b.ir.block
            with other:
                outside = list(self.padding) * self._words, b.ir.block
        return self._grouped(_merge(b, inside, outside))[0]

    def _load(self, rows: list[Pointer], offset: Value) -> list[Operand]:
        lanes = LANES * self.geometry.groups
        loads = [row.load("i8", offset, lanes) for row in rows]
        mix = _one_group if self.geometry.groups == 1 else interleave_wide
        words = [word for i in range(0, len(rows), 4) for word in mix(loads[i : i + 4])]
        return [self.dot.activation(word) for word in words]


class StoredColumns(Columns):
    """The columns of a segment in the stack frame: ``[group][column][word]``.

    The state is the address of the block's first column.
    """

    def __init__(self, b: Builder, geometry: Geometry, dot: Dot) -> None:
        super().__init__(b, geometry, dot)
        self.word_bytes = REGISTER * len(self.padding)
        self.column_bytes = self.word_bytes * geometry.words
        self.group_bytes = self.column_bytes * (geometry.segment_columns + WIDE_GROUPS - 1)
        self.memory = b.stack(self.group_bytes * self.most_groups)

    @property
    def most_groups(self) -> int:
        return WIDE_GROUPS if interleaves_wide(self.b.isa) else 1

    def blocks(self, groups: Value) -> Value:
        return groups

    def prepare(self, rows: list[Pointer], left: Value, count: Value, groups: Value) -> None:
        b, width = self.b, self.b.value("width")
        first = smaller(larger(b.i64(0) - left, 0), count)
        last = larger(smaller(width - left, count), first)
        if self.most_groups == 1:
            self._narrow(rows, left, first, last)
        else:
            one = groups.eq(1) & b.value("channels").ne(LANES)
            with b.if_else(one) as (single, several):
                with single:
                    self._narrow(rows, left, first, last)
                with several:
                    self._wide(rows, left, first, last)
        self._pad(b.i64(0), first)
        self._pad(last, count)

    def start(self, rows: list[Pointer], left: Value, group: Value) -> list[Any]:
        return [self.memory + group * self.group_bytes]

    def operand(self, state: list[Any], column: int, word: int, group: int) -> Operand:
        place = state[0] + (column * self.column_bytes + word * self.word_bytes)
        sizes = range(0, self.word_bytes, REGISTER)
        return tuple(place.load("i32", offset, align=REGISTER) for offset in sizes)

    def advance(self, rows: list[Pointer], state: list[Any]) -> list[Any]:
        return [state[0] + self.geometry.advance * self.column_bytes]

    @property
    def one_by_one(self) -> bool:
        """Registers hold little more than one output and its operands."""
        return self.most_groups == 1

    def pixel(self, state: list[Any], p: Value) -> list[Any]:
        """The state as if pixel ``p`` of the block were its first."""
        return [state[0] + p * (self.geometry.stride[1] * self.column_bytes)]

    def _pad(self, first: Value, last: Value) -> None:
        with self.b.loop(first, last) as column:
            for group in range(self.most_groups):
                for word in range(self.geometry.words):
                    self._store(column, group * self.group_bytes, word, self.padding)

    def _store(self, column: Value, start: Value | int, word: int, operand: Operand) -> None:
        """A word of a column of the group that starts at ``start``."""
        place = self.memory + column * self.column_bytes + start
        for i, value in enumerate(operand):
            place.store(value, word * self.word_bytes + i * REGISTER, align=REGISTER)

    def _narrow(self, rows: list[Pointer], left: Value, first: Value, last: Value) -> None:
        """Columns of one group of channels."""
        with self.b.loop(first, last) as column:
            offset = (left + column) * self.b.value("channels")
            loads = [row.load("i8", offset) for row in rows]
            for word in range(self.geometry.words):
                value = interleave(loads[4 * word : 4 * word + 4])
                self._store(column, 0, word, self.dot.activation(value))

    def _wide(self, rows: list[Pointer], left: Value, first: Value, last: Value) -> None:
        """64 bytes of a row at a time: four groups of a column, or columns of fewer channels.

        What is written after the last column is not used.
        """
        pixel = self.b.value("channels")
        step, starts = self._places()
        with self.b.loop(first, last, step) as column:
            offset = (left + column) * pixel
            loads = [row.load("i8", offset, LANES * WIDE_GROUPS) for row in rows]
            for word in range(self.geometry.words):
                values = interleave_wide(loads[4 * word : 4 * word + 4])
                for start, value in zip(starts, values, strict=True):
                    self._store(column, start, word, self.dot.activation(value))

    def _places(self) -> tuple[Value, list[Value]]:
        """Columns in 64 bytes of a row, and where each 16 bytes of them are stored."""
        b, channels = self.b, self.b.value("channels")
        wide = [(0, i) for i in range(WIDE_GROUPS)]
        of_two = [(i // 2, i % 2) for i in range(WIDE_GROUPS)]
        of_one = [(i, 0) for i in range(WIDE_GROUPS)]
        starts = [
            [b.i64(column * self.column_bytes + group * self.group_bytes) for column, group in form]
            for form in (wide, of_two, of_one)
        ]
        one, two = channels.eq(LANES), channels.eq(2 * LANES)
        step = b.select(one, b.i64(4), b.select(two, b.i64(2), b.i64(1)))
        return step, [
            b.select(one, c, b.select(two, d, e)) for e, d, c in zip(*starts, strict=True)
        ]


def columns_for(b: Builder, geometry: Geometry, dot: Dot) -> Columns:
    """The better way for a geometry: machines with few registers hold no columns."""
    held = geometry.is_held and interleaves_wide(b.isa)
    return (HeldColumns if held else StoredColumns)(b, geometry, dot)


def _one_group(rows: list[Value]) -> list[Value]:
    return [interleave(rows)]


def _flat(columns: list[list[Operand]]) -> list[Value]:
    return [value for column in columns for operand in column for value in operand]


def _merge(b: Builder, one: tuple[list[Value], Any], other: tuple[list[Value], Any]) -> list[Value]:
    """What two branches give: their values and the blocks that they end with."""
    merged: list[Value] = []
    for left, right in zip(one[0], other[0], strict=True):
        phi = b.ir.phi(left.ir.type)
        phi.add_incoming(left.ir, one[1])
        phi.add_incoming(right.ir, other[1])
        merged.append(Value(b, phi))
    return merged
