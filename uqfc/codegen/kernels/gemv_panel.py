"""One panel of ``gemv``: weights are decoded in registers and met with tiles of rows.

A 32-bit word of a channel holds its *parts*: 4 values of K each, 1 part of int8, 2 of INT4, 4 of
two bits. Where the dot product takes any int8, a part is not shifted to the low end of its byte but
only cut out, which is one instruction: part ``j`` gives ``2**(bits * j)`` times the weights, in
sums of its own that are shifted in the end. The last part would need the sign bit; its top bit is
flipped (in the same instruction), which makes it ``w - 2**(bits - 1)``, scaled. So for one row::

    sum_k x[k] (w[k] - zw)  =  sum_j (sums[j] >> bits * j)  +  2**(bits - 1) last  -  zw all

where ``all`` is the sum of the activations and ``last`` of those that meet last parts. Both are
computed once for each row.
"""

from __future__ import annotations

from functools import reduce
from typing import Any

from uqfc.codegen.builder import Builder
from uqfc.codegen.isa.dot import ALL_BYTES, Operand, dot_for
from uqfc.codegen.kernels.epilogue import Epilogue
from uqfc.codegen.kernels.narrow import part_of
from uqfc.codegen.kernels.tile import tile_sizes
from uqfc.codegen.kernels.tile_sums import ROWS_PER_POINTER
from uqfc.codegen.kernels.writing import TileWriter
from uqfc.codegen.vector import LANES, Pointer, Value
from uqfc.packing import NARROW_BITS, Storage

SCALED_SUMS = {"vnni512": 24}
"""Sums of a tile up to which each part has its own: they leave registers for decoding."""
PREFETCHED = 4096
"""Bytes ahead of the weights in use: far enough for a third level cache, and for pages."""
LEAST_UNROLLED = 2
"""Words of a channel in a step of the loop."""
CORRECTION_BYTES = 8
"""Of each row: int32 ``all`` and ``2**(bits - 1) last``."""


def emit_activation_sums(b: Builder, storage: Storage, most_rows: int) -> Pointer:
    """A table of the corrections of ``rows`` <= ``most_rows`` rows of ``a``."""
    parts = 8 // NARROW_BITS[storage]
    dot = dot_for(b.isa, "s4")
    ones = dot.weight((b.i32(ALL_BYTES, LANES),))
    is_last = b.vector("i32", [int(lane % parts == parts - 1) for lane in range(LANES)])
    table = b.stack(most_rows * CORRECTION_BYTES)
    cursor = [b.pointer("a")]
    with b.loop(0, b.value("rows"), carry=cursor) as row:
        size = b.value("steps") * (4 * parts)
        whole = size & -(4 * LANES)
        total = [b.i32(0, LANES)]
        with b.loop(0, whole, 4 * LANES, carry=total) as k:
            total[0] = dot.add(total[0], dot.activation(cursor[0].load_i32(k)), ones)
        words = (cursor[0] + whole).load_first("i32", (size - whole) // 4)
        total[0] = dot.add(total[0], dot.activation(words), ones)
        half = 1 << NARROW_BITS[storage] - 1
        table.store(b.tree_sum(total[0]), row * CORRECTION_BYTES)
        table.store(b.tree_sum(total[0] * is_last) * half, row * CORRECTION_BYTES + 4)
        cursor[:] = [cursor[0] + b.value("lda")]
    return table


class PanelEmitter:
    """Emits the outputs of a panel of ``channels`` for all rows, ``tile_rows`` at a time.

    What is left is done as ``tile_sizes`` says. In a function with the parameters of ``GemvSpec``;
    to be made outside its loops. ``corrections`` of narrow weights: see ``emit_activation_sums``.
    """

    def __init__(
        self,
        b: Builder,
        storage: Storage,
        tile_rows: int,
        epilogue: Epilogue,
        channels: int,
        corrections: Pointer | None,
    ) -> None:
        self.b = b
        self.tile_rows = tile_rows
        self.epilogue = epilogue
        self.channels = channels
        self.corrections = corrections
        self.bits = NARROW_BITS.get(storage, 8)
        self.parts = 8 // self.bits
        self.dot = dot_for(b.isa, "s8" if corrections is None else "s4")
        self.lanes = min(channels, LANES)
        self.vectors = channels // self.lanes
        self.writer = TileWriter(b, epilogue, self.vectors, b.i64(channels), self.lanes)

    def run(self, channel: Value, count: Value) -> None:
        """The panel that starts at ``channel``, of which the first ``count`` channels exist."""
        b, rows = self.b, self.b.value("rows")
        writer = self.writer.at(b.pointer("multiplier") + channel * 4, count)
        done = b.i64(0)
        for size in tile_sizes(self.tile_rows):
            end = done + (rows - done) // size * size
            with b.loop(done, end, size) as row:
                self._tile(writer, channel, row, size)
            done = end

    def _tile(self, writer: TileWriter, channel: Value, row: Value, rows: int) -> None:
        b = self.b
        totals = _Sums(self, channel, row, rows).totals()
        out = b.pointer("out") + channel * self.epilogue.element_bytes
        residual = b.pointer("residual") + channel if self.epilogue.residual else None

        def out_row(index: int) -> Pointer:
            return out + b.value("ldc") * (row + index)

        def residual_row(index: int) -> Pointer:
            assert residual is not None
            return residual + b.value("ldr") * (row + index)

        writer.write(totals, out_row, None if residual is None else residual_row)


class _Sums:
    """Emits the sums of ``rows`` rows from ``row`` on for the panel that starts at ``channel``."""

    def __init__(self, panel: PanelEmitter, channel: Value, row: Value, rows: int) -> None:
        self.panel = panel
        self.b = panel.b
        self.channel = channel
        self.row = row
        self.rows = rows
        self.outputs = rows * panel.vectors
        self.line = 4 * LANES * panel.vectors
        """Bytes of a word of all channels; half of them are not used by 8 lanes."""
        most = SCALED_SUMS.get(self.b.isa.name, 0)
        self.scaled = panel.parts > 1 and self.outputs * panel.parts <= most
        self.places = self.outputs * (panel.parts if self.scaled else 1)
        """Sums of a chain of additions; few have several chains."""
        self.chains = max(1, min(4, self.b.isa.accumulators // self.places))

    def totals(self) -> list[Value]:
        """Row after row."""
        b, panel = self.b, self.panel
        zero = b.i32(0, panel.lanes)
        starts = self._starts()
        sums = starts + [zero] * (self.places * self.chains - self.outputs)
        a, lda, steps = b.pointer("a"), b.value("lda"), b.value("steps")
        rows = [a + lda * (self.row + i) for i in range(0, self.rows, ROWS_PER_POINTER)]
        state: list[Any] = [*sums, b.pointer("weights") + self.channel * steps * 4, *rows]
        together = panel.dot.together // panel.parts
        unroll = max(LEAST_UNROLLED, self.chains * max(1, together))
        whole = steps & -unroll
        with b.loop(0, whole, unroll, carry=state):
            self._steps(state, unroll)
        with b.loop(whole, steps, carry=state):
            self._steps(state, 1)
        chains = [state[i * self.places : (i + 1) * self.places] for i in range(self.chains)]
        totals = [reduce(Value.__add__, same) for same in zip(*chains, strict=True)]
        if not self.scaled:
            return totals
        scaled = [totals[i : i + self.outputs] for i in range(0, self.places, self.outputs)]
        return [
            reduce(Value.__add__, [t >> panel.bits * j if j else t for j, t in enumerate(same)])
            for same in zip(*scaled, strict=True)
        ]

    def _starts(self) -> list[Value]:
        """Addends, and for narrow weights the corrections."""
        b, panel = self.b, self.panel
        vectors = range(panel.vectors)
        addend = b.pointer("addend") + self.channel * 4
        addends = [addend.load_i32(v * 64, panel.lanes) for v in vectors]
        if panel.corrections is None:
            return addends * self.rows
        padded = (b.value("n") + (LANES - 1)) & -LANES
        after = b.pointer("weights") + b.value("steps") * padded * 4 + self.channel
        zero_points = [after.load_u8_as_i32(v * LANES, panel.lanes) for v in vectors]
        starts: list[Value] = []
        for row in range(self.rows):
            place = (self.row + row) * CORRECTION_BYTES
            every = panel.corrections.load_i32(place, 0)
            last = panel.corrections.load_i32(place + 4, 0)
            for addend, zero_point in zip(addends, zero_points, strict=True):
                start = addend - zero_point * every
                starts.append(start + last if self.scaled else start)
        return starts

    def _steps(self, state: list[Any], count: int) -> None:
        """``count`` words of each channel; ``state``: the sums, weights, rows, which move on."""
        panel, dot, lda = self.panel, self.panel.dot, self.b.value("lda")
        sums = self.places * self.chains
        weights: Pointer = state[sums]
        pointers: list[Pointer] = state[sums + 1 :]
        words = [self._words(weights + self.line * i) for i in range(count)]
        groups = range(count * panel.parts)
        for first in groups[:: dot.together]:
            batch = groups[first : first + dot.together]
            decoded = [
                [self._decoded(word, g % panel.parts) for word in words[g // panel.parts]]
                for g in batch
            ]
            place = self._place(first)
            for row in range(self.rows):
                pointer = pointers[row // ROWS_PER_POINTER] + lda * (row % ROWS_PER_POINTER)
                activations = [dot.broadcast(pointer.load_i32(4 * g, 0)) for g in batch]
                for same in zip(*decoded, strict=True):
                    state[place] = dot.sum(state[place], activations, same)
                    place += 1
        state[sums:] = [
            weights + self.line * count,
            *(p + 4 * panel.parts * count for p in pointers),
        ]

    def _words(self, weights: Pointer) -> list[Value]:
        """One of each channel, and what will be needed later is on its way."""
        lines = [weights + 4 * LANES * v for v in range(self.panel.vectors)]
        for line in lines:
            line.prefetch(PREFETCHED)
        return [line.load_i32(0, self.panel.lanes) for line in lines]

    def _place(self, group: int) -> int:
        """The first sum that a group of four K is added to."""
        if not self.scaled:
            return group // self.panel.dot.together % self.chains * self.places
        word, part = divmod(group, self.panel.parts)
        return word % self.chains * self.places + part * self.outputs

    def _decoded(self, word: Value, part: int) -> Operand:
        """A part of a word, scaled or not."""
        panel = self.panel
        if panel.parts == 1:
            return panel.dot.weight((word,))
        if not self.scaled:
            return panel.dot.weight((part_of(word, panel.bits, part),))
        mask = ((1 << panel.bits) - 1) * ALL_BYTES
        cut = word & signed32(mask << panel.bits * part)
        if part == panel.parts - 1:
            cut = cut ^ signed32(0x80 * ALL_BYTES)
        return panel.dot.weight((cut,))


def signed32(bits: int) -> int:
    """The int32 of these 32 bits."""
    return bits - (1 << 32) if bits >> 31 else bits
