"""The code of a depthwise convolution: strips of steps, groups of 16 channels, segments of rows.

For each strip of steps and some groups of channels the weights are prepared once. Segment after
segment of the rows, the steps' input columns are interleaved to words (``depthwise_columns``); a
dot product takes one word and so four taps. Four outputs of 16 channels, or one of 64, are rounded
and packed together. Rows outside the image are a row of padding. ``odd``: the last of the steps of
an image, which are of two rows, has only one.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

from uqfc.codegen.builder import Builder
from uqfc.codegen.isa.dot import DotKind, Operand, dot_for
from uqfc.codegen.kernels.depthwise_columns import Columns, Step
from uqfc.codegen.kernels.depthwise_geometry import (
    MOST_SCATTERED,
    VECTORS,
    Geometry,
)
from uqfc.codegen.kernels.depthwise_outputs import Line, Outputs, Sum
from uqfc.codegen.kernels.depthwise_rows import InputRows
from uqfc.codegen.kernels.depthwise_stored import StoredColumns, columns_for
from uqfc.codegen.kernels.depthwise_weights import Place, Weights
from uqfc.codegen.kernels.epilogue import Epilogue
from uqfc.codegen.kernels.tensor import smaller
from uqfc.codegen.vector import LANES, Pointer, Value
from uqfc.packing import LINE, Storage

KINDS: dict[Storage, DotKind] = {"s8": "s8", "u4": "s4", "u2": "s4", "s16": "s16"}


class DepthwiseBody:
    """Emits the body of the function of a ``DepthwiseSpec``."""

    def __init__(
        self,
        b: Builder,
        geometry: Geometry,
        blocks: Sequence[int],
        storage: Storage,
        epilogue: Epilogue,
        *,
        odd: bool,
        broad_pixels: int = 1,
    ) -> None:
        self.b = b
        self.geometry = geometry
        self.odd = odd
        self.dot = dot_for(b.isa, KINDS[storage])
        self.pixel = b.value("channels")
        self.rows = InputRows(b)
        broad = geometry.broad(broad_pixels)
        forms = [geometry if channels == LANES else broad for channels in blocks]
        packs = epilogue.output == "u8"  # which puts channels in order
        self.forms = [columns_for(b, form, self.dot, in_lanes=packs) for form in forms]
        groups, multiplies = self.forms[0].most_groups, epilogue.output != "i32"
        self.weights = Weights(b, geometry, self.dot, storage, groups, multipliers=multiplies)
        self.sums = b.stack(geometry.rows * VECTORS * LINE)
        self.outputs = Outputs(b, epilogue, max(VECTORS, geometry.pixels))

    # --- loops ---------------------------------------------------------------------------------

    def run(self) -> None:
        b, get = self.b, self.b.value
        self.rows.fill_padding()
        with b.loop(get("begin"), get("end"), get("strip")) as first:
            last = smaller(first + get("strip"), get("end"))
            image = first // get("image_steps")
            y = (first - image * get("image_steps")) * self.geometry.rows
            position = [image * get("height"), y, image * get("out_height") + y]
            channel = b.i64(0)
            for i, columns in enumerate(self.forms):
                left = 0 if i == len(self.forms) - 1 else MOST_SCATTERED
                state = [channel]
                with b.while_loop(
                    lambda state=state, left=left: (self.pixel - state[0]).gt(left), state
                ):
                    groups = columns.groups(self.pixel - state[0])
                    self.weights.prepare(state[0], groups, in_lanes=columns.in_lanes)
                    with b.loop(0, get("out_width"), columns.segment) as x:
                        self._steps(columns, first, last, position, x, state[0], groups)
                    state[0] = state[0] + groups * LANES
                channel = state[0]

    def _steps(
        self,
        columns: Columns,
        first: Value,
        last: Value,
        position: list[Value],
        x: Value,
        channel: Value,
        groups: Value,
    ) -> None:
        """Steps ``first … last - 1`` of a segment and some groups of channels.

        ``position``: the number of image rows before the image, the output row in it, and its
        number in the batch.
        """
        b, get, rows = self.b, self.b.value, self.geometry.rows
        state = list(position)
        with b.loop(first, last, carry=state) as number:
            above, y, out_row = state
            begins = number.eq(first) | y.eq(0)
            self._step(columns, above, y, out_row, x, begins, channel, groups)
            after = y + rows
            ends = after.ge(get("out_height"))
            state[0] = above + b.select(ends, get("height"), b.i64(0))
            state[1] = b.select(ends, b.i64(0), after)
            state[2] = out_row + b.select(ends, get("out_height") - y, b.i64(rows))

    def _step(
        self,
        columns: Columns,
        above: Value,
        y: Value,
        out_row: Value,
        x: Value,
        begins: Value,
        channel: Value,
        groups: Value,
    ) -> None:
        b, g, get = self.b, columns.geometry, self.b.value
        width = get("out_width")
        top = y * g.stride[0] - get("pad_y")

        def row(i: Value | int) -> Pointer:
            return self.rows.row(above, top + i * g.dilation[0]) + channel

        count = smaller(width - x, columns.segment)
        step = Step(row, x * g.stride[1] - get("pad_x"), y, count, begins)
        lines = [
            Line(((out_row + i) * width + x) * self.pixel + channel, count) for i in range(g.rows)
        ]
        columns.prepare(step, groups)
        if not self.odd:
            self._groups(columns, step, lines, channel, groups)
            return
        with b.if_else((y + 1).lt(get("out_height"))) as (two, one):
            with two:
                self._groups(columns, step, lines, channel, groups)
            with one:
                self._groups(columns, step, lines[:1], channel, groups)

    def _groups(
        self, columns: Columns, step: Step, lines: list[Line], channel: Value, groups: Value
    ) -> None:
        """The outputs of a step in these rows, block after block of its groups of channels."""
        with self.b.loop(0, columns.blocks(groups)) as group:
            first = group * LANES
            moved = [Line(line.first + first, line.count) for line in lines]
            rest = self.pixel - channel - first
            self._segment(columns, columns.start(step, group), moved, rest, group)

    # --- outputs -------------------------------------------------------------------------------

    def _segment(
        self,
        columns: Columns,
        state: list[Any],
        lines: list[Line],
        rest: Value,
        group: Value,
    ) -> None:
        """The outputs of a block of channels, of which ``rest`` are left.

        ``state`` is that of the columns.
        """
        b, g = self.b, columns.geometry
        groups = [
            self.weights.memory + (group + i) * self.weights.group_bytes for i in range(g.groups)
        ]
        held = self.weights.held(groups[0]) if g.groups == 1 else {}
        rows, count = len(lines), lines[0].count
        whole = b.select(rest.ge(LANES * g.groups), count - (g.pixels - 1), b.i64(0))
        carried = [*state, b.i64(0)]
        with b.loop(0, count, g.pixels, carry=carried) as x:
            state, element = carried[:-1], carried[-1]
            places = [Line(line.first + element, line.count - x) for line in lines]
            if columns.in_lanes:
                pieces = self._broad_pieces(columns, state, groups, places)
            else:
                if isinstance(columns, StoredColumns) and columns.one_by_one:
                    sums = self._sums_one_by_one(columns, state, rows, groups[0])
                else:
                    sums = self._sums(columns, state, rows, dict(enumerate(groups)), held)
                multipliers = {i: self.weights.multiplier(each) for i, each in enumerate(groups)}
                pieces = self.outputs.pieces(sums, multipliers, places)
            state = columns.advance(state)
            with b.if_else(x.lt(whole)) as (inside, partial):
                with inside:
                    self.outputs.store(places, pieces)
                with partial:
                    self.outputs.store_some(places, pieces, rest)
            carried[:] = [*state, element + self.pixel * g.pixels]

    def _broad_pieces(
        self, columns: Columns, state: list[Any], groups: list[Pointer], places: list[Line]
    ) -> list[Sum]:
        """Two groups after the other: their sums are packed before there are the next ones."""
        halves: list[list[Sum]] = []
        for first in range(0, len(groups), 2):
            pair = {i: groups[i] for i in (first, first + 1)}
            sums = self._sums(columns, state, len(places), pair, {})
            multipliers = {i: self.weights.multiplier(group) for i, group in pair.items()}
            halves.append(self.outputs.halves(sums, multipliers, places))
        return self.outputs.joined(*halves)

    def _sums(
        self,
        columns: Columns,
        state: list[Any],
        rows: int,
        groups: dict[int, Pointer],
        held: dict[Place, Operand],
    ) -> list[Sum]:
        """Pixel after pixel, each row's, group after group."""
        g = columns.geometry
        numbers = list(product(range(g.pixels), range(rows), groups))
        addends = {i: self.weights.addend(group) for i, group in groups.items()}
        sums = {number: addends[number[2]] for number in numbers}
        for word, kx, row in product(range(g.words), g.taps, range(rows)):
            if not g.uses(row, word):
                continue
            place = (row, kx, word)
            weights = {
                i: held.get(place) or self.weights.load(group, place) for i, group in groups.items()
            }
            for p, i in product(range(g.pixels), groups):
                operand = columns.operand(state, g.column(p, kx), word, i)
                total = sums[p, row, i]
                sums[p, row, i] = self.dot.add(total, operand, weights[i])
        return [Sum(*number, sums[number]) for number in numbers]

    def _sums_one_by_one(
        self, columns: StoredColumns, state: list[Any], rows: int, group: Pointer
    ) -> list[Sum]:
        """One vector after the other: for machines with few registers."""
        b, g = self.b, columns.geometry
        addend = self.weights.addend(group)
        with b.loop(0, rows) as row:
            weights = group + row * self.weights.row_bytes
            with b.loop(0, g.pixels) as p:
                pixel = columns.pixel(state, p)
                places = [(0, kx, word) for word in range(g.words) for kx in g.taps]
                operands = [
                    columns.operand(pixel, g.column(0, kx), word, 0)[self._parts(g, word)]
                    for _, kx, word in places
                ]
                taps = [
                    self.weights.load(weights, place)[self._parts(g, place[2])] for place in places
                ]
                total = self.dot.sum(addend, operands, taps)
                self.sums.store(total, (row * g.pixels + p) * LINE)
        return [
            Sum(p, row, 0, self.sums.load_i32((row * g.pixels + p) * LINE))
            for row, p in product(range(rows), range(g.pixels))
        ]

    def _parts(self, g: Geometry, word: int) -> slice:
        """The parts of an operand that are not 0: a word of one row has no second pair."""
        return slice(1) if self.dot.pairs and g.in_rows - 4 * word == 1 else slice(None)
