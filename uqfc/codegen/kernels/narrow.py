"""Weights of less than 8 bits, decoded in registers.

A 32-bit word of a channel holds its *parts*, 4 values of K each: 2 parts of INT4, 4 of two bits
(``packing``).
"""

from __future__ import annotations

from uqfc.codegen.isa.dot import ALL_BYTES
from uqfc.codegen.vector import LANES, Pointer, Value


def zero_bytes(zero_points: Pointer, offset: Value | int, lanes: int = LANES) -> Value:
    """The zero points u8 of ``lanes`` channels as i8 [4 * lanes], each four times."""
    zero_point = zero_points.load_u8_as_i32(offset, lanes)
    twice = zero_point | zero_point << 8
    return (twice | twice << 16).bitcast("i8", 4 * lanes)


def part_of(words: Value, bits: int, part: int) -> Value:
    """A part of i32 ``words`` [lanes], its values bytes of i32 [lanes]."""
    moved = words.shift_right_logical(bits * part) if part else words
    return moved & (((1 << bits) - 1) * ALL_BYTES)


def decoded(words: Value, bits: int, part: int, zeros: Value) -> Value:
    """``w - zero point`` of a part of i32 ``words`` [lanes], i8 [4 * lanes]."""
    return part_of(words, bits, part).bitcast("i8", 4 * words.lanes) - zeros
