"""All rows of one panel of output channels on AMX: blocks of 32 rows, sums in memory, epilogue.

Rows lie at one stride, so a tile of 16 rows may start anywhere. The last tiles of a line overlap
the ones before in what they read and compute, not in what they write. Lines of output whose rows
are adjacent but for some that are not wanted (the padding between the lines of an image) are one
line here, too: what is not wanted is computed and not written.

Where a panel is larger than the first level cache its K is done in parts: all rows with the first
part, sums to memory, all rows with the second.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from uqfc.codegen.builder import Builder, find_function
from uqfc.codegen.isa import Isa, amx
from uqfc.codegen.kernels.amx_sums import TileSums
from uqfc.codegen.kernels.epilogue import Epilogue
from uqfc.codegen.kernels.tensor import larger, smaller
from uqfc.codegen.kernels.writing import TileWriter
from uqfc.codegen.vector import LANES, Pointer, Value

BLOCK_ROWS = 2 * amx.TILE_ROWS
ROWS_AT_ONCE = 4
"""That the epilogue writes: enough vectors to hide its latency."""


@dataclass(frozen=True)
class AmxTile:
    """The outputs of one panel of ``vectors`` vectors of 16 channels, 1 or 2."""

    vectors: int
    epilogue: Epilogue

    def parameters(self) -> dict[str, str]:
        """Names and kinds of the function's parameters; those of ``tile.Tile``, and:

        A line has ``pixels`` rows, of which the first ``width`` of every ``pitch`` are wanted;
        ``behind`` rows before the first one may be read. ``steps`` are blocks of 64 K. ``part`` and
        ``part_steps`` are how many segments and blocks of each are done at a time. ``sums`` is
        memory for a block of 32 rows of sums, or for all rows of a line if there are several parts.
        """
        parameters = {"a": "ptr", "lda": "i64", "pixels": "i64", "lines": "i64", "line": "i64"}
        parameters |= {"width": "i64", "pitch": "i64", "behind": "i64"}
        parameters |= {"offsets": "ptr", "segments": "i64", "steps": "i64"}
        parameters |= {"part": "i64", "part_steps": "i64"}
        parameters |= {"weights": "ptr", "addend": "ptr", "multiplier": "ptr", "count": "i64"}
        parameters |= {"sums": "ptr", "out": "ptr", "ldc": "i64"}
        parameters |= {"residual": "ptr", "ldr": "i64"} if self.epilogue.residual else {}
        return parameters | self.epilogue.scalars()

    def emit(self, module: Any, isa: Isa) -> Any:
        """The function, emitted once."""
        name = f"tile_{BLOCK_ROWS}x{self.vectors * LANES}_{self.epilogue.name}__amx"
        if function := find_function(module, name):
            return function
        kernels = {rows: TileSums(rows, self.vectors).emit(module, isa) for rows in (1, 2)}
        write = emit_write(module, isa, self.epilogue, self.vectors)
        b = Builder.function(module, isa, name, internal=True, **self.parameters())
        _AmxTile(self, b, kernels, write).run()
        return b.ret()


class _AmxTile:
    """The body of an ``AmxTile``: lines, parts of K, blocks of rows."""

    def __init__(self, tile: AmxTile, b: Builder, kernels: dict[int, Any], write: Any) -> None:
        self.tile = tile
        self.b = b
        self.kernels = kernels
        self.write = write
        self.row_bytes = 64 * tile.vectors
        get = b.value
        single = get("part").ge(get("segments")) & get("part_steps").ge(get("steps"))
        self.block_sums = b.select(single, b.i64(0), b.i64(self.row_bytes))
        """Bytes of sums that are kept of each row of a line."""

    def run(self) -> None:
        b, get = self.b, self.b.value
        strides = [get("line")]
        wanted = get("pixels") // get("pitch") * get("width")
        wanted = wanted + smaller(get("pixels") % get("pitch"), get("width"))
        state = [b.pointer("a"), b.pointer("out")]
        strides.append(wanted * get("ldc"))
        if self.tile.epilogue.residual:
            state.append(b.pointer("residual"))
            strides.append(wanted * get("ldr"))
        with b.loop(0, get("lines"), carry=state):
            self._line(state[0], state[1:])
            state[:] = [p + s for p, s in zip(state, strides, strict=True)]

    def _line(self, a: Pointer, outputs: list[Pointer]) -> None:
        """Parts: first of the segments, then of the blocks of these segments."""
        b, get = self.b, self.b.value
        weights = [b.pointer("weights")]
        with (
            b.loop(0, get("segments"), get("part"), carry=weights) as segment,
            b.loop(0, get("steps"), get("part_steps"), carry=weights) as step,
        ):
            segments = smaller(get("segments") - segment, get("part"))
            steps = smaller(get("steps") - step, get("part_steps"))
            first = segment.eq(0) & step.eq(0)
            last = (segment + segments).ge(get("segments")) & (step + steps).ge(get("steps"))
            offsets = b.pointer("offsets") + segment * 8
            k = [offsets, segments, steps, weights[0]]
            with b.loop(0, get("pixels"), BLOCK_ROWS) as row:
                sums = b.pointer("sums") + row * self.block_sums
                self._sums(a + step * amx.TILE_K, row, first, sums, k)
                with b.when(last):
                    self._outputs(row, sums, outputs)
            weights[0] = weights[0] + segments * steps * (amx.TILE_K // 4 * self.row_bytes)

    def _start(self, row: Value) -> Value:
        """Where the tile for ``row`` starts: no later than 16 rows before the end of the line."""
        b, get = self.b, self.b.value
        start = smaller(row, get("pixels") - amx.TILE_ROWS)
        return larger(start, b.i64(0) - get("behind"))

    def _sums(self, a: Pointer, row: Value, first: Value, sums: Pointer, k: list[Any]) -> None:
        b, lda = self.b, self.b.value("lda")
        starts = [self._start(row + i * amx.TILE_ROWS) for i in range(2)]
        rows = [a + start * lda for start in starts]
        to = [sums + i * amx.TILE_ROWS * self.row_bytes for i in range(2)]
        source = [b.select(first, b.pointer("addend"), t) for t in to]
        stride = b.select(first, b.i64(0), b.i64(self.row_bytes))
        with b.if_else((b.value("pixels") - row).gt(amx.TILE_ROWS)) as (two, one):
            for branch, n in ((two, 2), (one, 1)):
                with branch:
                    b.call(self.kernels[n], *rows[:n], lda, *k, *source[:n], stride, *to[:n])

    def _outputs(self, row: Value, sums: Pointer, outputs: list[Pointer]) -> None:
        """A block at once, or tile by tile where the second one overlaps the first."""
        b, get = self.b, self.b.value
        end = smaller(row + BLOCK_ROWS, get("pixels"))
        whole = (get("pixels") - row).ge(BLOCK_ROWS)
        size = b.select(whole, b.i64(BLOCK_ROWS), b.i64(amx.TILE_ROWS))
        with b.loop(row, end, size) as piece:
            skipped = piece - self._start(piece)
            source = sums + (piece - row + skipped) * self.row_bytes
            self._runs(piece, smaller(piece + size, end), source, outputs)

    def _runs(self, start: Value, end: Value, sums: Pointer, outputs: list[Pointer]) -> None:
        """Rows ``start … end - 1`` of a line whose sums are at ``sums``: those that are wanted."""
        b, get = self.b, self.b.value
        strides = [get("ldc")]
        strides += [get("ldr")] if self.tile.epilogue.residual else []
        state = [start]
        with b.while_loop(lambda: state[0].lt(end), state):
            row = state[0]
            column = row % get("pitch")
            rows = smaller(get("width") - column, end - row)
            place = row // get("pitch") * get("width") + column
            with b.when(rows.gt(0)):
                changed: dict[str, Value | Pointer] = {
                    "sums": sums + (row - start) * self.row_bytes,
                    "rows": rows,
                }
                names = ("out", "residual")
                for name, pointer, stride in zip(names, outputs, strides, strict=False):
                    changed[name] = pointer + place * stride
                b.call_with(self.write, changed)
            state[0] = row - column + get("pitch")


def emit_write(module: Any, isa: Isa, epilogue: Epilogue, vectors: int) -> Any:
    """``f(sums, rows, count, multiplier, out, ldc, [residual, ldr,] scalars…)``, emitted once.

    ``sums`` int32 [rows, 16 * vectors] with the addends; the first ``count`` channels are written.
    """
    name = f"write_{vectors * LANES}_{epilogue.name}__{isa.name}"
    if function := find_function(module, name):
        return function
    parameters = {"sums": "ptr", "rows": "i64", "count": "i64", "multiplier": "ptr"}
    parameters |= {"out": "ptr", "ldc": "i64"}
    parameters |= {"residual": "ptr", "ldr": "i64"} if epilogue.residual else {}
    b = Builder.function(module, isa, name, internal=True, **parameters, **epilogue.scalars())
    writer = TileWriter(b, epilogue, vectors, b.value("count"))
    rows = b.value("rows")
    whole = rows & ~(ROWS_AT_ONCE - 1)
    cursor = [b.pointer("sums"), b.pointer("out")]
    cursor += [b.pointer("residual")] if epilogue.residual else []
    with b.loop(0, whole, ROWS_AT_ONCE, carry=cursor):
        _write_rows(b, writer, cursor, ROWS_AT_ONCE)
    with b.loop(whole, rows, carry=cursor):
        _write_rows(b, writer, cursor, 1)
    return b.ret()


def _write_rows(b: Builder, writer: TileWriter, cursor: list[Pointer], rows: int) -> None:
    """Some rows; ``cursor`` (sums, out, residual) moves on."""
    starts, row_bytes = list(cursor), 64 * writer.vectors
    strides = [b.i64(row_bytes), b.value("ldc")]
    strides += [b.value("ldr")] if writer.epilogue.residual else []
    sums = [starts[0].load_i32(64 * i) for i in range(rows * writer.vectors)]

    def out(row: int) -> Pointer:
        return starts[1] + strides[1] * row

    def residual(row: int) -> Pointer:
        return starts[2] + strides[2] * row

    writer.write(sums, out, residual if writer.epilogue.residual else None)
    cursor[:] = [p + s * rows for p, s in zip(starts, strides, strict=True)]
