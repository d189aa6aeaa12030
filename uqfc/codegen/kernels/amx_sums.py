"""The inner kernel on AMX: up to two by two tiles of sums over K.

Per 64 of K two tiles of activations meet two of weights: four loads (of about 8 cycles each, from
the first level cache) for four dot products (of 16 cycles). Loads stand between dot products, so
that those of the next step start while the last products of this one are still to be done.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from uqfc.codegen.builder import Builder, find_function
from uqfc.codegen.isa import Isa, amx
from uqfc.codegen.vector import Pointer, Value

COLUMN_BYTES = 64
"""Of a row of a tile of sums, and of 4 K of a tile of weights."""


@dataclass(frozen=True)
class TileSums:
    """``rows`` by ``columns`` tiles of sums: 1 or 2 each; a tile is 16 by 16."""

    rows: int
    columns: int

    @property
    def row_bytes(self) -> int:
        """Bytes of a row of sums, and of 4 K of the panel of weights."""
        return self.columns * COLUMN_BYTES

    def parameters(self) -> dict[str, str]:
        """Names and kinds of the function's parameters.

        Of each tile of rows ``i``: its activations ``a{i}`` (u8, rows ``lda`` apart), where its
        sums start from, ``from{i}`` (rows ``from_stride`` apart: 0 is the same row for all), and
        where they go, ``to{i}`` (rows of ``row_bytes``). K is in ``segments`` runs of ``blocks``
        blocks of 64, each starting where the table ``offsets`` of i64 says; ``weights`` are int8
        [64 * blocks * segments / 4][16 * columns][4]. Memory after a row of activations is read up
        to the end of a block.
        """
        tiles = range(self.rows)
        parameters = {f"a{i}": "ptr" for i in tiles} | {"lda": "i64"}
        parameters |= {"offsets": "ptr", "segments": "i64", "blocks": "i64", "weights": "ptr"}
        parameters |= {f"from{i}": "ptr" for i in tiles} | {"from_stride": "i64"}
        return parameters | {f"to{i}": "ptr" for i in tiles}

    def emit(self, module: Any, isa: Isa) -> Any:
        """The function, emitted once."""
        name = f"tile_sums_{self.rows * amx.TILE_ROWS}x{self.columns * amx.TILE_ROWS}__amx"
        if function := find_function(module, name):
            return function
        b = Builder.function(module, isa, name, internal=True, **self.parameters())
        self._start(b)
        panel = [b.pointer("weights")]
        with b.loop(0, b.value("segments") * 8, 8, carry=panel) as segment:
            offset = b.pointer("offsets").load("i64", segment, 0)
            cursor = [*panel, *(b.pointer(f"a{i}") + offset for i in range(self.rows))]
            with b.loop(0, b.value("blocks"), carry=cursor):
                self._step(b, cursor)
            panel[0] = cursor[0]
        self._finish(b)
        return b.ret()

    def _tiles(self) -> list[tuple[int, int]]:
        return [(i, j) for i in range(self.rows) for j in range(self.columns)]

    def _start(self, b: Builder) -> None:
        for i, j in self._tiles():
            source = b.pointer(f"from{i}") + j * COLUMN_BYTES
            amx.load(b, amx.SUMS[i][j], source, b.value("from_stride"))

    def _step(self, b: Builder, cursor: list[Pointer]) -> None:
        """64 of K; ``cursor`` (weights, then activations of each tile of rows) moves on."""
        stride, lda = b.i64(self.row_bytes), b.value("lda")
        loaded: set[int] = set()
        for i, j in self._tiles():
            if amx.ROWS[i] not in loaded:
                amx.load(b, amx.ROWS[i], cursor[1 + i], lda)
            if amx.COLUMNS[j] not in loaded:
                amx.load(b, amx.COLUMNS[j], cursor[0] + j * COLUMN_BYTES, stride)
            loaded |= {amx.ROWS[i], amx.COLUMNS[j]}
            amx.dot(b, amx.SUMS[i][j], amx.ROWS[i], amx.COLUMNS[j])
        weights = cursor[0] + amx.TILE_K // 4 * self.row_bytes
        cursor[:] = [weights, *(a + amx.TILE_K for a in cursor[1:])]

    def _finish(self, b: Builder) -> None:
        stride: Value = b.i64(self.row_bytes)
        for i, j in self._tiles():
            target = b.pointer(f"to{i}") + j * COLUMN_BYTES
            amx.store(b, amx.SUMS[i][j], target, stride)
