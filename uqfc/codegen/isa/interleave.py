"""Bytes of up to four rows to words: lane ``c`` of the result holds ``rows[0..3][c]``.

What a depthwise convolution does before it can use a dot product of four. The bytes of rows that
are missing are unspecified unless there is one row.
"""

from __future__ import annotations

from collections.abc import Sequence

from uqfc.codegen.vector import LANES, Value, llvm_type

DWORDS = [4 * (i % 4) + i // 4 for i in range(16)]
"""Transposes the 4 x 4 dwords of a vector of four rows."""
BYTES = [4 * (i % 4) + i // 4 for i in range(16)] * 4
"""Transposes the 4 x 4 bytes of each 128-bit lane; the shuffle stays within lanes."""


def interleave(rows: Sequence[Value]) -> Value:
    """``rows`` are 1 to 4 vectors of 16 i8; the result is i32 [16]."""
    b = rows[0].b
    if len(rows) == 1:
        return rows[0].zext("i32")
    four = [*rows, *[rows[-1]] * (4 - len(rows))]
    if b.isa.name == "vnni512":
        return _interleave_vnni512(four)
    pairs = [_zip(four[0], four[1]), _zip(four[2], four[3])]
    words = _zip(*[pair.bitcast("i16", LANES) for pair in pairs])
    return words.bitcast("i32", LANES)


def _zip(first: Value, second: Value) -> Value:
    """Lanes of two vectors alternately."""
    order = [lane + half * first.lanes for lane in range(first.lanes) for half in (0, 1)]
    return first.shuffle(order, second)


def _interleave_vnni512(rows: Sequence[Value]) -> Value:
    """Rows to the 128-bit lanes of one register, dwords across lanes, bytes within them."""
    b = rows[0].b
    halves = [first.shuffle(range(32), second) for first, second in (rows[:2], rows[2:])]
    joined = halves[0].shuffle(range(64), halves[1]).bitcast("i32", LANES)
    name = "llvm.x86.avx512.permvar.si.512"
    dwords = b.intrinsic(name, llvm_type("i32", LANES), joined, b.vector("i32", DWORDS))
    name = "llvm.x86.avx512.pshuf.b.512"
    order = b.vector("i8", BYTES)
    mixed = b.intrinsic(name, llvm_type("i8", 64), dwords.bitcast("i8", 64), order)
    return mixed.bitcast("i32", LANES)
