"""AMX-INT8: eight tiles of 16 rows by 64 bytes, always of that shape.

One configuration serves a whole network: each thread loads it once, before its first kernel, and
releases it after the last. Kernels name tiles by number and agree on what they are for: sums in
``SUMS``, activations in ``ROWS``, weights in ``COLUMNS``, two by two of each.

A tile of activations is u8 [16 rows][64 k], of weights int8 [16][16 channels][4] (the words of
``packing.PanelLayout``, 64 k), of sums int32 [16 rows][16 channels].
"""

from __future__ import annotations

from uqfc.codegen.builder import Builder
from uqfc.codegen.llvm import ir
from uqfc.codegen.vector import Pointer, Value

TILE_ROWS = 16
TILE_K = 64
"""Reduction of one ``dot``."""
SUMS = ((0, 1), (2, 3))
"""Tile of the sums of rows ``i`` and columns ``j``."""
ROWS = (4, 5)
COLUMNS = (6, 7)

_PALETTE = 1
_TILES = 8
_ROW_BYTES, _ROW_COUNTS = [TILE_K, 0] * _TILES, [TILE_ROWS] * _TILES
_CONFIGURATION = [_PALETTE, *[0] * 15, *_ROW_BYTES, *[0] * 16, *_ROW_COUNTS, *[0] * 8]


def configure(b: Builder) -> None:
    """Shapes the tiles of this thread: about 180 cycles."""
    memory = b.stack(64)
    memory.store(b.vector("i8", _CONFIGURATION))
    _call(b, "ldtilecfg", memory)


def release(b: Builder) -> None:
    """Returns the tiles of this thread to the state that the system need not save."""
    _call(b, "tilerelease")


def load(b: Builder, tile: int, source: Pointer, stride: Value) -> None:
    """16 rows of 64 bytes, ``stride`` bytes apart; 0 repeats one row."""
    _call(b, "tileloadd64", tile, source, stride)


def store(b: Builder, tile: int, target: Pointer, stride: Value) -> None:
    """16 rows of 64 bytes, ``stride`` bytes apart."""
    _call(b, "tilestored64", tile, target, stride)


def dot(b: Builder, sums: int, rows: int, columns: int) -> None:
    """``sums += rows @ columns``: u8 by int8, int32."""
    _call(b, "tdpbusd", sums, rows, columns)


def _call(b: Builder, name: str, *operands: int | Pointer | Value) -> None:
    """An AMX intrinsic; numbers are tiles."""
    values = [ir.IntType(8)(o) if isinstance(o, int) else o.ir for o in operands]
    kind = ir.FunctionType(ir.VoidType(), [v.type for v in values])
    full = f"llvm.x86.{name}"
    function = b.module.globals.get(full) or ir.Function(b.module, kind, full)
    b.ir.call(function, values)
