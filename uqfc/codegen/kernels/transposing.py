"""Transposition of 4-byte elements in blocks of 8 by 8."""

from __future__ import annotations

from dataclasses import dataclass

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


@dataclass(frozen=True)
class Lines:
    """A matrix: the address of its first element and the bytes from line to line."""

    start: Pointer
    pitch: Value

    def at(self, line: Value, element: Value) -> Pointer:
        return self.start + line * self.pitch + element * WIDTH


def copy_transposed(b: Builder, source: Lines, target: Lines, rows: Value, columns: Value) -> None:
    """``target[i, j] = source[j, i]``: i < rows, j < columns."""
    full_rows, full_columns = rows & -BLOCK, columns & -BLOCK
    with b.loop(0, full_rows, BLOCK) as i:
        with b.loop(0, full_columns, BLOCK) as j:
            start = source.at(j, i)
            block = [start.load("i32", source.pitch * r, BLOCK) for r in range(BLOCK)]
            out = target.at(i, j)
            for r, row in enumerate(transpose_block(block)):
                out.store(row, target.pitch * r)
        _copy_elements(b, source, target, (i, i + BLOCK), (full_columns, columns))
    _copy_elements(b, source, target, (full_rows, rows), (b.i64(0), columns))


def _copy_elements(
    b: Builder,
    source: Lines,
    target: Lines,
    rows: tuple[Value, Value],
    columns: tuple[Value, Value],
) -> None:
    with b.loop(*rows) as i, b.loop(*columns) as j:
        target.at(i, j).store(source.at(j, i).load("i32", 0, 0))
