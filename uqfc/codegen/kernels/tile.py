"""The inner kernels of a matrix product: a panel of outputs, and the expansion of INT4 panels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from uqfc.codegen.builder import Builder, find_function
from uqfc.codegen.isa import Isa
from uqfc.codegen.isa.dot import DotKind, Operand, dot_for
from uqfc.codegen.kernels.epilogue import Epilogue
from uqfc.codegen.kernels.writing import TileWriter
from uqfc.codegen.vector import LANES, Pointer, Value
from uqfc.packing import NARROW_BITS, Storage

LOW_NIBBLES = 0x0F0F0F0F
ALL_BYTES = 0x01010101
LEAST_HALVED = 8
"""Rows of a tile of which half is worth code of its own."""
ROWS_PER_POINTER = 3
"""Rows that are reached from one pointer: x86 addresses scale a stride by 1 and 2."""


def tile_sizes(rows: int) -> list[int]:
    """Rows of the tiles that a line is divided into, one size after the other."""
    return sorted({rows, rows // 2 if rows >= LEAST_HALVED else 1, 1}, reverse=True)


@dataclass(frozen=True)
class Tile:
    """The outputs of one panel: ``rows`` by ``16 * vectors`` sums over K at a time in registers.

    What is left of a line is done in half as many rows (``tile_sizes``) and row by row. ``source``
    is how the panel is stored: ``s8``, ``s16``, ``s4`` (int8 with |w| <= 15) or ``u4`` (nibbles,
    decoded in registers, for one row; the zero point meets the sum of the activations).
    """

    rows: int
    vectors: int
    source: Literal["s8", "s4", "s16", "u4"]
    epilogue: Epilogue
    lanes: int = LANES
    """8 for the first half of a panel of one vector."""

    def __post_init__(self) -> None:
        if self.source == "u4" and self.rows != 1:
            raise ValueError("a tile of nibbles has one row")

    @property
    def dot(self) -> DotKind:
        return "s4" if self.source == "u4" else self.source

    @property
    def group(self) -> int:
        """K per step."""
        return 8 if self.source == "u4" else 4

    def parameters(self) -> dict[str, str]:
        """Names and kinds of the function's parameters.

        The rows are ``lines`` (``line`` bytes of ``a`` apart) of ``pixels`` (``lda`` apart), their
        outputs ``ldc`` bytes apart. A row's K are in ``segments`` runs of ``steps`` groups, each
        starting where the table ``offsets`` of i64 says. ``a`` is read up to the end of a group.
        The panel's first ``count`` channels are written.
        """
        parameters = {"a": "ptr", "lda": "i64", "pixels": "i64", "lines": "i64", "line": "i64"}
        parameters |= {"offsets": "ptr", "segments": "i64", "steps": "i64"}
        parameters |= {"weights": "ptr", "addend": "ptr", "multiplier": "ptr", "count": "i64"}
        parameters |= {"zero_points": "ptr"} if self.source == "u4" else {}
        parameters |= {"out": "ptr", "ldc": "i64"}
        parameters |= {"residual": "ptr", "ldr": "i64"} if self.epilogue.residual else {}
        return parameters | self.epilogue.scalars()

    def emit(self, module: Any, isa: Isa) -> Any:
        """The function, emitted once."""
        plain = self.source == "s4" and dot_for(isa, "s4") is dot_for(isa, "s8")
        source = "s8" if plain else self.source
        size = f"{self.rows}x{self.vectors * self.lanes}"
        name = f"tile_{source}_{size}_{self.epilogue.name}__{isa.name}"
        if function := find_function(module, name):
            return function
        b = Builder.function(module, isa, name, internal=True, **self.parameters())
        _TileEmitter(self, b).run()
        return b.ret()


class _TileEmitter:
    """The body of a ``Tile``: lines, tiles of rows, segments, groups of four K."""

    def __init__(self, tile: Tile, b: Builder) -> None:
        self.tile = tile
        self.b = b
        self.dot = dot_for(b.isa, tile.dot)
        self.writer = TileWriter(b, tile.epilogue, tile.vectors, b.value("count"), tile.lanes)

    def run(self) -> None:
        b, tile = self.b, self.tile
        pixels = b.value("pixels")
        outputs = [b.pointer("out")]
        if tile.epilogue.residual:
            outputs.append(b.pointer("residual"))
        lines = [b.pointer("a"), *outputs]
        with b.loop(0, b.value("lines"), carry=lines):
            cursor = list(lines)
            done = b.i64(0)
            for rows in tile_sizes(tile.rows):
                end = done + (pixels - done) // rows * rows
                with b.loop(done, end, rows, carry=cursor):
                    self._rows(cursor, rows)
                done = end
            lines[:] = [lines[0] + b.value("line"), *cursor[1:]]

    def _rows(self, cursor: list[Pointer], rows: int) -> None:
        """The outputs of some rows; ``cursor`` (a, out, residual) moves on."""
        b = self.b
        strides = [b.value("lda"), b.value("ldc")]
        strides += [b.value("ldr")] if self.tile.epilogue.residual else []
        sums = self._sums(cursor[0], rows)
        starts = list(cursor)

        def out(row: int) -> Pointer:
            return starts[1] + strides[1] * row

        def residual(row: int) -> Pointer:
            return starts[2] + strides[2] * row

        self.writer.write(sums, out, residual if self.tile.epilogue.residual else None)
        cursor[:] = [p + s * rows for p, s in zip(starts, strides, strict=True)]

    def _sums(self, a: Pointer, rows: int) -> list[Value]:
        """Sums of ``rows`` rows, row after row; few rows have several chains of additions."""
        b, tile = self.b, self.tile
        outputs = rows * tile.vectors
        chains = max(1, min(4, b.isa.accumulators // outputs))
        unroll = max(1, chains * self.dot.together // (tile.group // 4))
        zero = b.i32(0, tile.lanes)
        sums = self._addends(a) * rows + [zero] * (outputs * (chains - 1))
        lda, steps = b.value("lda"), b.value("steps")
        state: list[Any] = [*sums, b.pointer("weights")]
        with b.loop(0, b.value("segments") * 8, 8, carry=state) as segment:
            start = a + b.pointer("offsets").load("i64", segment, 0)
            inner = [*state, *(start + lda * row for row in range(0, rows, ROWS_PER_POINTER))]
            first = b.i64(0)
            if unroll > 1:
                first = steps & ~(unroll - 1)
                with b.loop(0, first, unroll, carry=inner):
                    self._steps(inner, len(sums), rows, unroll)
            self._rest(inner, len(sums), rows, steps - first)
            state[:] = inner[: len(state)]
        totals = state[:outputs]
        for chain in range(1, chains):
            part = state[chain * outputs : (chain + 1) * outputs]
            totals = [total + more for total, more in zip(totals, part, strict=True)]
        return totals

    def _rest(self, state: list[Any], sums: int, rows: int, left: Value) -> None:
        """The last steps, two by two where that is cheaper."""
        b = self.b
        together = 2 if self.dot.together > 2 and self.tile.group == 4 else 1
        for count in range(together, 0, -1):
            with b.loop(count - 1, left, count, carry=state):
                self._steps(state, sums, rows, count)
            left = left & (count - 1)

    def _steps(self, state: list[Any], sums: int, rows: int, count: int) -> None:
        """``count`` groups of four K (of eight, if nibbles), one chain of sums after the other.

        ``state``: the sums, the weights, the pointers to the rows; the pointers move on.
        """
        tile, lda = self.tile, self.b.value("lda")
        outputs = rows * tile.vectors
        chains = sums // outputs
        panel: Pointer = state[sums]
        pointers: list[Pointer] = state[sums + 1 :]
        panel_step = 64 * tile.vectors * self.dot.words
        groups = [g for i in range(count) for g in self._weights(panel + panel_step * i)]
        for row in range(rows):
            pointer = pointers[row // ROWS_PER_POINTER] + lda * (row % ROWS_PER_POINTER)
            words = [self.dot.broadcast(pointer.load_i32(4 * i, 0)) for i in range(len(groups))]
            for v in range(tile.vectors):
                weights = [group[v] for group in groups]
                for chain in range(min(chains, len(groups))):
                    place = chain * outputs + row * tile.vectors + v
                    own = slice(chain, None, chains)
                    state[place] = self.dot.sum(state[place], words[own], weights[own])
        state[sums:] = [panel + panel_step * count, *(p + tile.group * count for p in pointers)]

    def _weights(self, panel: Pointer) -> list[list[Operand]]:
        """Per four K of the step, per vector, the weights."""
        vectors = self.tile.vectors
        words = self.dot.words
        loaded = [
            tuple(
                panel.load_i32(64 * (vectors * word + v), self.tile.lanes) for word in range(words)
            )
            for v in range(vectors)
        ]
        if self.tile.source != "u4":
            return [[self.dot.weight(w) for w in loaded]]
        low = [self.dot.weight((w[0] & LOW_NIBBLES,)) for w in loaded]
        high = [self.dot.weight((w[0].shift_right_logical(4) & LOW_NIBBLES,)) for w in loaded]
        return [low, high]

    def _addends(self, a: Pointer) -> list[Value]:
        """Of each vector, with the zero point of nibbles applied to the sum of activations."""
        b, tile = self.b, self.tile
        vectors = range(tile.vectors)
        addends = [b.pointer("addend").load_i32(v * 64, tile.lanes) for v in vectors]
        if tile.source != "u4":
            return addends
        zero_points = [
            b.pointer("zero_points").load_u8_as_i32(v * LANES, tile.lanes) for v in vectors
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


def emit_expand(module: Any, isa: Isa, storage: Storage) -> Any:
    """``f(packed, zero_points, channels, steps, out)``: a ``u4`` or ``u2`` panel as int8.

    The result is ``w - zero point``. ``steps`` of 8 (16) K; ``channels`` is a multiple of 16;
    ``out`` int8 [2 (4) * steps][channels][4].
    """
    bits = NARROW_BITS[storage]
    mask = ((1 << bits) - 1) * ALL_BYTES
    name = f"expand_{storage}__{isa.name}"
    if function := find_function(module, name):
        return function
    parameters = {"packed": "ptr", "zero_points": "ptr", "channels": "i64", "steps": "i64"}
    parameters |= {"out": "noalias"}
    b = Builder.function(module, isa, name, internal=True, **parameters)
    row = b.value("channels") * 4
    with b.loop(0, b.value("channels"), LANES) as channel:
        zero_points = b.pointer("zero_points").load_u8_as_i32(channel)
        zero_bytes = zero_points | zero_points << 8
        zero_bytes = (zero_bytes | zero_bytes << 16).bitcast("i8", 64)
        cursor = [b.pointer("packed") + channel * 4, b.pointer("out") + channel * 4]
        with b.loop(0, b.value("steps"), carry=cursor):
            words = cursor[0].load_i32()
            for shift in range(0, 8, bits):
                moved = words.shift_right_logical(shift) if shift else words
                part = (moved & mask).bitcast("i8", 64)
                cursor[1].store(part - zero_bytes, row * (shift // bits))
            cursor[:] = [cursor[0] + row, cursor[1] + row * (8 // bits)]
    return b.ret()
