"""The code of a depthwise convolution: strips of steps, groups of 16 channels, segments of rows.

For each strip of steps and some groups of channels the weights are prepared once. Along a row the
input columns are interleaved to words (``depthwise_columns``); a dot product takes one word and so
four taps. Four outputs of 16 channels are rounded and packed together. Rows outside the image are
a row of padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from uqfc.codegen.builder import Builder
from uqfc.codegen.isa.dot import DotKind, Operand, dot_for
from uqfc.codegen.kernels.depthwise_columns import Columns, StoredColumns, columns_for
from uqfc.codegen.kernels.depthwise_geometry import (
    MOST_SCATTERED,
    VECTORS,
    Geometry,
)
from uqfc.codegen.kernels.depthwise_outputs import Line, Outputs
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
    ) -> None:
        self.b = b
        self.geometry = geometry
        self.epilogue = epilogue
        self.dot = dot_for(b.isa, KINDS[storage])
        self.pixel = b.value("channels")
        self.line = b.value("width") * self.pixel
        forms = [geometry if channels == LANES else geometry.broad for channels in blocks]
        self.forms = [columns_for(b, form, self.dot) for form in forms]
        groups, multiplies = self.forms[0].most_groups, epilogue.output != "i32"
        self.weights = Weights(b, geometry, self.dot, storage, groups, multipliers=multiplies)
        self.sums = b.stack(geometry.rows * VECTORS * LINE)
        self.outputs = Outputs(b, epilogue)

    # --- loops ---------------------------------------------------------------------------------

    def run(self) -> None:
        b, get = self.b, self.b.value
        fill = get("pad_value").trunc("i8").splat(LINE)
        with b.loop(0, get("padding_bytes"), LINE) as offset:
            b.pointer("padding").store(fill, offset)
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
                    self.weights.prepare(state[0], groups)
                    self._steps(columns, first, last, position, state[0], groups)
                    state[0] = state[0] + groups * LANES
                channel = state[0]

    def _steps(
        self,
        columns: Columns,
        first: Value,
        last: Value,
        position: list[Value],
        channel: Value,
        groups: Value,
    ) -> None:
        """Steps ``first … last - 1`` of some groups of channels.

        ``position``: the number of image rows before the image, the output row in it, and its
        number in the batch.
        """
        b, get, rows = self.b, self.b.value, self.geometry.rows
        state = list(position)
        with b.loop(first, last, carry=state):
            above, y, out_row = state
            self._step(columns, above, y, out_row, channel, groups)
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
        channel: Value,
        groups: Value,
    ) -> None:
        b, g, get = self.b, columns.geometry, self.b.value
        width = get("out_width")
        top = y * g.stride[0] - get("pad_y")
        sources = [self._input_row(above, top + i * g.dilation[0]) for i in range(g.in_rows)]
        rows = [source + channel for source in sources]
        firsts = [(out_row + row) * width for row in range(g.rows)]
        counts = [
            b.select((y + row).lt(get("out_height")), width, b.i64(0)) for row in range(g.rows)
        ]
        with b.loop(0, width, g.segment) as x:
            count = smaller(width - x, g.segment)
            left = x * g.stride[1] - get("pad_x")
            columns.prepare(rows, left, (count - 1) * g.stride[1] + g.span, groups)
            lines = [
                Line((first + x) * self.pixel, smaller(limit - x, count))
                for first, limit in zip(firsts, counts, strict=True)
            ]
            with b.loop(0, columns.blocks(groups)) as group:
                state = columns.start(rows, left, group)
                self._segment(columns, rows, state, lines, count, channel + group * LANES, group)

    def _input_row(self, above: Value, row: Value) -> Pointer:
        """A row of the image, or the row of padding."""
        b = self.b
        source = b.pointer("x") + (above + row) * self.line
        return b.select(row.below(b.value("height")), source, b.pointer("padding"))

    # --- outputs -------------------------------------------------------------------------------

    def _segment(
        self,
        columns: Columns,
        rows: list[Pointer],
        state: list[Any],
        lines: list[Line],
        count: Value,
        channel: Value,
        group: Value,
    ) -> None:
        """The outputs of a block of channels; their ``count`` pixels are those of the widest line.

        ``state`` is that of the columns.
        """
        b, g = self.b, columns.geometry
        groups = [
            self.weights.memory + (group + i) * self.weights.group_bytes for i in range(g.groups)
        ]
        held = self.weights.held(groups[0]) if g.groups == 1 else {}
        rest = self.pixel - channel
        whole = b.select(rest.ge(LANES * g.groups), lines[-1].count - (g.pixels - 1), b.i64(0))
        lines = [Line(line.first + channel, line.count) for line in lines]
        carried = [*state, b.i64(0)]
        with b.loop(0, count, g.pixels, carry=carried) as x:
            state, element = carried[:-1], carried[-1]
            if isinstance(columns, StoredColumns) and columns.one_by_one:
                sums = self._sums_one_by_one(columns, state, groups[0])
            else:
                sums = [self._sums(columns, state, row, groups, held) for row in range(g.rows)]
            state = columns.advance(rows, state)
            places = [Line(line.first + element, line.count - x) for line in lines]
            multipliers = [self.weights.multiplier(each) for each in groups]
            values = [
                self.outputs.values(totals, multipliers, place)
                for totals, place in zip(sums, places, strict=True)
            ]
            with b.if_else(x.lt(whole)) as (inside, partial):
                with inside:
                    for place, parts in zip(places, values, strict=True):
                        self.outputs.store(g, place, parts)
                with partial:
                    for place, parts in zip(places, values, strict=True):
                        self.outputs.store_some(g, place, parts, rest)
            carried[:] = [*state, element + self.pixel * g.pixels]

    def _sums(
        self,
        columns: Columns,
        state: list[Any],
        row: int,
        groups: list[Pointer],
        held: dict[Place, Operand],
    ) -> list[Value]:
        """``VECTORS`` of one row, group after group. Each word of a column has its own chain."""
        g, together = columns.geometry, self.dot.together
        zero = [self.b.i32(0, LANES)] * VECTORS
        sums = [self.weights.addend(group) for group in groups for _ in range(g.pixels)]
        for word in range(g.words):
            chain = list(zero) if word else sums
            for first in range(0, g.kernel[1], together):
                taps = range(first, min(first + together, g.kernel[1]))
                for i, group in enumerate(groups):
                    places = [(row, kx, word) for kx in taps]
                    weights = [held.get(p) or self.weights.load(group, p) for p in places]
                    for p in range(g.pixels):
                        operands = [columns.operand(state, g.column(p, kx), word, i) for kx in taps]
                        vector = i * g.pixels + p
                        chain[vector] = self.dot.sum(chain[vector], operands, weights)
            if word:
                sums = [total + more for total, more in zip(sums, chain, strict=True)]
        return sums

    def _sums_one_by_one(
        self, columns: StoredColumns, state: list[Any], group: Pointer
    ) -> list[list[Value]]:
        """The sums of each row, one vector after the other: for machines with few registers."""
        b, g = self.b, columns.geometry
        addend = self.weights.addend(group)
        with b.loop(0, g.rows) as row:
            weights = group + row * self.weights.row_bytes
            with b.loop(0, g.pixels) as p:
                pixel = columns.pixel(state, p)
                places = [(0, kx, word) for word in range(g.words) for kx in range(g.kernel[1])]
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
            [self.sums.load_i32((row * g.pixels + p) * LINE) for p in range(g.pixels)]
            for row in range(g.rows)
        ]

    def _parts(self, g: Geometry, word: int) -> slice:
        """The parts of an operand that are not 0: a word of one row has no second pair."""
        return slice(1) if self.dot.pairs and g.in_rows - 4 * word == 1 else slice(None)
