"""The inner kernel of a matrix product: a panel of outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from uqfc.codegen.builder import Builder, find_function
from uqfc.codegen.isa import Isa
from uqfc.codegen.isa.dot import DotKind, dot_for
from uqfc.codegen.kernels.epilogue import Epilogue
from uqfc.codegen.kernels.int16_sums import Int16Sums, sums_in_int16
from uqfc.codegen.kernels.reading import PLAIN, Reading
from uqfc.codegen.kernels.tile_sums import TileSums
from uqfc.codegen.kernels.writing import Piece, TileWriter
from uqfc.codegen.vector import LANES, Pointer, Value
from uqfc.packing import Storage

LEAST_HALVED = 8
"""Rows of a tile of which half is worth code of its own."""
LEAST_OVERLAPPED = 4
"""Rows of a tile whose sums hide the latency of dot products while outputs are computed."""
OVERLAPS = (8, 3)
"""Groups of four K that outputs are spread over: the more the better."""


def overlap_of(isa: Isa, rows: int, steps: int, storage: Storage = "s8") -> int:
    """``Tile.overlap`` of ``rows`` rows whose segments are ``steps`` groups of four K."""
    if storage == "s16" or not LEAST_OVERLAPPED <= rows <= isa.overlapped_rows:
        return 0
    return next((overlap for overlap in OVERLAPS if overlap <= steps), 0)


def overlap_name(overlap: int) -> str:
    return f"o{overlap}" if overlap else ""


def tile_sizes(rows: int) -> list[int]:
    """Rows of the tiles that a line is divided into, one size after the other."""
    return sorted({rows, rows // 2 if rows >= LEAST_HALVED else 1, 1}, reverse=True)


@dataclass(frozen=True)
class Tile:
    """The outputs of one panel: ``rows`` by ``16 * vectors`` sums over K at a time in registers.

    What is left of a line is done in half as many rows (``tile_sizes``) and row by row. ``source``
    is how the panel is stored: int8 if ``s8`` or ``s4``, int16.
    """

    rows: int
    vectors: int
    source: DotKind
    epilogue: Epilogue
    lanes: int = LANES
    """8 for the first half of a panel of one vector."""
    overlap: int = 0
    """Groups of four K among which the outputs of the tile before are computed: segments have at
    least as many. 0: outputs are computed after their sums."""
    reading: Reading = PLAIN
    """Of tiles that overlap."""

    def parameters(self, isa: Isa) -> dict[str, str]:
        """Names and kinds of the function's parameters; all sizes of an epilogue have the same.

        The rows are ``lines`` (``line`` bytes of ``a`` apart) of ``pixels`` (``lda`` apart), their
        outputs ``ldc`` bytes apart. A row's K are in ``segments`` runs of ``steps`` groups, each
        starting where the table ``offsets`` of i64 says. ``a`` is read up to the end of a group.
        The panel's first ``count`` channels are written.
        """
        parameters = {"a": "ptr", "lda": "i64", "pixels": "i64", "lines": "i64", "line": "i64"}
        parameters |= {"offsets": "ptr", "segments": "i64", "steps": "i64"}
        parameters |= {"weights": "ptr", "addend": "ptr", "multiplier": "ptr", "count": "i64"}
        parameters |= {"out": "ptr", "ldc": "i64"} | self.reading.parameters()
        parameters |= {"residual": "ptr", "ldr": "i64"} if self.epilogue.residual else {}
        parameters |= self.epilogue.scalars()
        return parameters | ({"int16_steps": "i64"} if sums_in_int16(isa, self.source) else {})

    def emit(self, module: Any, isa: Isa) -> Any:
        """The function, emitted once."""
        plain = self.source == "s4" and dot_for(isa, "s4") is dot_for(isa, "s8")
        source = "s8" if plain else self.source
        size = f"{self.rows}x{self.vectors * self.lanes}"
        size += overlap_name(self.overlap) + self.reading.name
        name = f"tile_{source}_{size}_{self.epilogue.name}__{isa.name}"
        if function := find_function(module, name):
            return function
        b = Builder.function(module, isa, name, internal=True, **self.parameters(isa))
        _TileEmitter(self, b).run()
        return b.ret()


class _TileEmitter:
    """The body of a ``Tile``: lines, tiles of rows. A cursor has the places in a, out, residual."""

    def __init__(self, tile: Tile, b: Builder) -> None:
        self.tile = tile
        self.b = b
        dot = dot_for(b.isa, tile.source)
        self.sums = TileSums(b, dot, tile.vectors, tile.lanes, tile.reading)
        self.sums_of = self.sums.of
        if sums_in_int16(b.isa, tile.source):
            self.sums_of = Int16Sums(b, tile.vectors, tile.lanes).of
        self.writer = TileWriter(b, tile.epilogue, tile.vectors, b.value("count"), tile.lanes)
        residual = tile.epilogue.residual
        self.start = [b.pointer(name) for name in ("a", "out", *["residual"] * residual)]
        self.strides = [b.value(name) for name in ("lda", "ldc", *["ldr"] * residual)]

    def run(self) -> None:
        b, tile, pixels = self.b, self.tile, self.b.value("pixels")
        sizes, first = tile_sizes(tile.rows), b.i64(0)
        if tile.overlap:
            tiles = pixels // sizes.pop(0)
            self._overlapped(tiles)
            first = tiles * tile.rows
        lines = list(self.start)
        with b.loop(0, b.value("lines"), carry=lines):
            cursor = self._moved(lines, first)
            done = first
            for rows in sizes:
                end = done + (pixels - done) // rows * rows
                with b.loop(done, end, rows, carry=cursor):
                    for piece in self._outputs(cursor, self.sums_of(cursor[0], rows)):
                        piece()
                    cursor[:] = self._moved(cursor, rows)
                done = end
            lines[:] = [lines[0] + b.value("line"), *cursor[1:]]

    def _overlapped(self, tiles: Value) -> None:
        """The first ``tiles`` tiles of all lines, the outputs of each among the sums of the next.

        Processors do not look ahead far enough to do that by themselves.
        """
        b, rows = self.b, self.tile.rows
        size = rows * self.tile.vectors
        done = (tiles - 1) * rows
        to_next_line = [stride * (b.value("pixels") - done) for stride in self.strides]
        to_next_line[0] = b.value("line") - self.strides[0] * done
        with b.when((tiles * b.value("lines")).gt(0)):
            state: list[Any] = [*self.sums.of(self.start[0], rows), *self.start, b.i64(1)]
            with b.loop(1, tiles * b.value("lines"), carry=state) as tile:
                sums, cursor, place = state[:size], state[size:-1], state[-1]
                outputs = self._outputs(cursor, sums)
                is_last = place.eq(tiles)
                following = [
                    p + b.select(is_last, line, stride * rows)
                    for p, line, stride in zip(cursor, to_next_line, self.strides, strict=True)
                ]
                overlap, ahead = self.tile.overlap, self._ahead(tile)
                sums = self.sums.beside(following[0], rows, overlap, outputs, ahead)
                state[:] = [*sums, *following, b.select(is_last, b.i64(1), place + 1)]
            for piece in self._outputs(state[size:-1], state[:size]):
                piece()

    def _ahead(self, tile: Value) -> Pointer | None:
        """What a tile but the first prefetches."""
        if not self.tile.reading.prefetch:
            return None
        return self.b.pointer("ahead") + (tile - 1) * self.b.value("ahead_tile")

    def _moved(self, cursor: Sequence[Pointer], rows: Value | int) -> list[Pointer]:
        return [p + stride * rows for p, stride in zip(cursor, self.strides, strict=True)]

    def _outputs(self, cursor: Sequence[Pointer], sums: Sequence[Value]) -> list[Piece]:
        """What writes the outputs of some rows."""

        def row_of(operand: int, row: int) -> Pointer:
            return cursor[operand] + self.strides[operand] * row

        residual = partial(row_of, 2) if self.tile.epilogue.residual else None
        return self.writer.pieces(sums, partial(row_of, 1), residual)
