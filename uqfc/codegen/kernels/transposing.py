"""Transposition of 4-byte elements in blocks of 8 by 8."""

from __future__ import annotations

from uqfc.codegen.builder import Builder
from uqfc.codegen.vector import Pointer, Value

BLOCK = 8
WIDTH = 4


def transpose_block(rows: list[Value]) -> list[Value]:
    """Lane i of row j goes to lane j of row i; 8 vectors of 8 lanes, three rounds of shuffles."""
    half = 1
    while half < BLOCK:
        low = [_exchange(i, half, 0) for i in range(BLOCK)]
        high = [_exchange(i, half, half) for i in range(BLOCK)]
        rows = [
            rows[i].shuffle(low, rows[i + half])
            if not i & half
            else rows[i - half].shuffle(high, rows[i])
            for i in range(BLOCK)
        ]
        half *= 2
    return rows


def _exchange(lane: int, half: int, part: int) -> int:
    """Lane of ``a ++ b`` for a round that swaps a's high parts with b's low parts."""
    if lane & half:
        return BLOCK + lane - half + part
    return lane + part


def copy_transposed(
    b: Builder,
    source: Pointer,
    source_pitch: Value,
    target: Pointer,
    target_pitch: Value,
    rows: Value,
    columns: Value,
) -> None:
    """``target[i, j] = source[j, i]``: i < rows, j < columns; pitches are bytes of a line."""
    full_rows, full_columns = rows & -BLOCK, columns & -BLOCK
    with b.loop(0, full_rows, BLOCK) as i:
        with b.loop(0, full_columns, BLOCK) as j:
            start = source + j * source_pitch + i * WIDTH
            block = [start.load("i32", source_pitch * r, BLOCK) for r in range(BLOCK)]
            out = target + i * target_pitch + j * WIDTH
            for r, row in enumerate(transpose_block(block)):
                out.store(row, target_pitch * r)
        _copy_elements(b, source, source_pitch, target, target_pitch, (i, i + BLOCK), (full_columns, columns))
    zero = b.i64(0)
    _copy_elements(b, source, source_pitch, target, target_pitch, (full_rows, rows), (zero, columns))


def _copy_elements(
    b: Builder,
    source: Pointer,
    source_pitch: Value,
    target: Pointer,
    target_pitch: Value,
    rows: tuple[Value, Value],
    columns: tuple[Value, Value],
) -> None:
    with b.loop(*rows) as i, b.loop(*columns) as j:
        scalar = source.load("i32", j * source_pitch + i * WIDTH, 0)
        target.store(scalar, i * target_pitch + j * WIDTH)
