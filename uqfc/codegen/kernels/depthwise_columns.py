"""Input columns of a depthwise convolution as words, which are operands of the dot product.

``HeldColumns`` interleaves each column when it is first needed and holds it in registers;
``StoredColumns`` (``depthwise_stored``) are for where registers cannot hold what outputs share.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from uqfc.codegen.builder import Builder
from uqfc.codegen.isa.dot import ALL_BYTES, Dot, Operand
from uqfc.codegen.isa.interleave import interleave, interleave_lanes, interleave_wide
from uqfc.codegen.kernels.depthwise_geometry import Geometry
from uqfc.codegen.kernels.tensor import larger, smaller
from uqfc.codegen.vector import LANES, Pointer, Value


@dataclass(frozen=True)
class Step:
    """What a step of a segment reads, of all channels from some channel on."""

    row: Callable[[Value | int], Pointer]
    """Column 0 of an input row of the step, of those ``dilation[0]`` apart."""
    left: Value
    """The input column of the first tap."""
    y: Value
    """The first output row of its image."""
    count: Value
    """Outputs of a row."""
    begins: Value
    """Whether the step before in this image and segment has not been done just before (i1)."""


class Columns(ABC):
    """Where the words come from. The function has ``width``, ``channels``, ``pad_value``."""

    in_lanes = False
    """Whether four groups of channels are in the order of ``interleave_lanes``."""

    def __init__(self, b: Builder, geometry: Geometry, dot: Dot) -> None:
        self.b = b
        self.geometry = geometry
        self.dot = dot

    @property
    def most_groups(self) -> int:
        """Groups of 16 channels at a time."""
        return self.geometry.groups

    @property
    def segment(self) -> Value:
        """Outputs of a row that are done before the next ones, in all rows of a strip."""
        return self.b.value("out_width")

    def groups(self, channels: Value) -> Value:
        """How many groups to do at a time of what is left of the channels."""
        if self.most_groups == 1:
            return self.b.i64(1)
        return smaller((channels + (LANES - 1)).shift_right_logical(4), self.most_groups)

    def blocks(self, groups: Value) -> Value:
        """Times that a row is gone along for ``groups`` groups."""
        return self.b.i64(1)

    @abstractmethod
    def prepare(self, step: Step, groups: Value) -> None:
        """The columns of a step are about to be used."""

    @abstractmethod
    def start(self, step: Step, group: Value) -> list[Any]:
        """The state (values and pointers) of a loop over outputs, of the groups from that on."""

    @abstractmethod
    def operand(self, state: list[Any], column: int, word: int, group: int) -> Operand:
        """A word of a column of the block."""

    @abstractmethod
    def advance(self, state: list[Any]) -> list[Any]:
        """The state of the next block."""


class HeldColumns(Columns):
    """The columns of a block in registers.

    The state is their words, and the leftmost column. Columns outside the image are words of
    padding. ``in_lanes``: of blocks of four groups.
    """

    def __init__(self, b: Builder, geometry: Geometry, dot: Dot, *, in_lanes: bool) -> None:
        super().__init__(b, geometry, dot)
        self.in_lanes = in_lanes and geometry.groups > 1
        word = (b.value("pad_value") & 0xFF) * ALL_BYTES
        self.padding = dot.activation(word.splat(LANES))
        self.rows: list[Pointer] = []

    def prepare(self, step: Step, groups: Value) -> None:
        """Only the rows: columns are interleaved when they are needed."""
        self.rows = [step.row(i) for i in range(self.geometry.in_rows)]

    def start(self, step: Step, group: Value) -> list[Any]:
        columns = [self._column(self.rows, step.left + q) for q in self.geometry.columns]
        return [*_flat(columns), step.left]

    def operand(self, state: list[Any], column: int, word: int, group: int) -> Operand:
        place = self.geometry.columns.index(column)
        return self._grouped(state[:-1])[place][word * self.geometry.groups + group]

    def advance(self, state: list[Any]) -> list[Any]:
        g = self.geometry
        before = dict(zip(g.columns, self._grouped(state[:-1]), strict=True))
        left = state[-1] + g.advance
        columns = {q: before[q + g.advance] for q in g.kept}
        columns |= self._new(self.rows, left, [q for q in g.columns if q not in g.kept])
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
        several = interleave_lanes if self.in_lanes else interleave_wide
        mix = _one_group if self.geometry.groups == 1 else several
        words = [word for i in range(0, len(rows), 4) for word in mix(loads[i : i + 4])]
        return [self.dot.activation(word) for word in words]


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
