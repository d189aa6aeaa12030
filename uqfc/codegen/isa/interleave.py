"""Bytes of up to four rows to words: lane ``c`` of the result holds ``rows[0..3][c]``.

What a depthwise convolution does before it can use a dot product of four. The bytes of rows that
are missing are unspecified unless there is one row.

Rows of 64 bytes take 3 instructions per 16 lanes where rows of 16 take 6, and the unpacking ones
among them run on all ports of recent machines.
"""

from __future__ import annotations

from collections.abc import Sequence

from uqfc.codegen.elements import llvm_type
from uqfc.codegen.isa import Isa
from uqfc.codegen.vector import LANES, Value

DWORDS = [4 * (i % 4) + i // 4 for i in range(16)]
"""Transposes the 4 x 4 dwords of a vector of four rows."""
BYTES = [4 * (i % 4) + i // 4 for i in range(16)] * 4
"""Transposes the 4 x 4 bytes of each 128-bit lane; the shuffle stays within lanes."""


def interleave(rows: Sequence[Value]) -> Value:
    """``rows`` are 1 to 4 vectors of 16 i8; the result is i32 [16]."""
    b = rows[0].b
    if len(rows) == 1:
        return rows[0].zext("i32")
    if b.isa.name == "vnni512":
        return _interleave_vnni512(rows)
    four = [*rows, *[rows[-1]] * (4 - len(rows))]
    pairs = [_zip(four[0], four[1]), _zip(four[2], four[3])]
    words = _zip(*[pair.bitcast("i16", LANES) for pair in pairs])
    return words.bitcast("i32", LANES)


def interleaves_wide(isa: Isa) -> bool:
    """Whether ``interleave_wide`` is better than four times ``interleave``."""
    return isa.name == "vnni512"


def interleave_wide(rows: Sequence[Value]) -> list[Value]:
    """``rows`` are 1 to 4 vectors of 64 i8; the results are four i32 [16], in order."""
    return interleave_lanes([_spread(row) for row in rows])


def interleave_lanes(rows: Sequence[Value]) -> list[Value]:
    """``interleave_wide`` without putting channels in order, which saves an instruction per row.

    Result ``j`` has channels ``4 j … 4 j + 3`` of each 16: within each 128-bit lane that is what
    packing four vectors to bytes undoes (``Saturation.pack_in_lanes``).
    """
    four = [*rows, *[rows[-1]] * (4 - len(rows))]
    return words_wide(_pairs(four[0], four[1]), _pairs(four[2], four[3]))


def pairs_wide(first: Value, second: Value) -> list[Value]:
    """Two vectors of 64 i8 to two of i16 [32], ``first`` in the low bytes: for ``words_wide``."""
    return _pairs(_spread(first), _spread(second))


def _pairs(first: Value, second: Value) -> list[Value]:
    return [_unpack(first, second, half).bitcast("i16", 32) for half in (0, 1)]


def words_wide(low: Sequence[Value], high: Sequence[Value]) -> list[Value]:
    """The words whose halves are two results of ``pairs_wide``: four i32 [16], in order."""
    words = [_unpack(a, b, half) for a, b in zip(low, high, strict=True) for half in (0, 1)]
    return [word.bitcast("i32", LANES) for word in words]


def transpose_lanes(vectors: Sequence[Value]) -> list[Value]:
    """Of four vectors of 16 lanes: result ``j`` has lanes ``4 j … 4 j + 3`` of each."""
    a, b, c, d = vectors
    result: list[Value] = []
    for half in (0, 8):
        order = [*range(half, half + 8), *range(16 + half, 24 + half)]
        left, right = a.shuffle(order, b), c.shuffle(order, d)
        for start in (0, 4):
            fours = [start, start + 8, start + 16, start + 24]
            lanes = [four + i for four in fours for i in range(4)]
            result.append(left.shuffle(lanes, right))
    return result


def _spread(row: Value) -> Value:
    """A vector of 64 i8 so that unpacking twice within 128-bit lanes gives its bytes in order."""
    return permute_dwords(row, DWORDS)


def permute_dwords(v: Value, order: Sequence[int]) -> Value:
    """AVX-512: the dwords ``order[0]``, … of a vector of 64 i8; one instruction."""
    b, kind = v.b, llvm_type("i32", LANES)
    places = b.vector("i32", order)
    name = "llvm.x86.avx512.permvar.si.512"
    return b.intrinsic(name, kind, v.bitcast("i32", LANES), places).bitcast("i8", 64)


def _unpack(first: Value, second: Value, half: int) -> Value:
    """The lower or upper halves of all 128-bit lanes, lanes of two vectors alternately."""
    lanes = first.lanes
    size = lanes // 4
    places = [lane * size + half * size // 2 + i for lane in range(4) for i in range(size // 2)]
    order = [place + lanes * which for place in places for which in (0, 1)]
    return first.shuffle(order, second)


def _zip(first: Value, second: Value) -> Value:
    """Lanes of two vectors alternately."""
    order = [lane + half * first.lanes for lane in range(first.lanes) for half in (0, 1)]
    return first.shuffle(order, second)


def _joined(parts: Sequence[Value], lanes: int) -> Value:
    """One or two vectors one after the other; the other lanes are undefined."""
    return parts[0].shuffle(range(lanes), *parts[1:])


def _interleave_vnni512(rows: Sequence[Value]) -> Value:
    """Rows to the 128-bit lanes of one register, dwords across lanes, bytes within them."""
    b = rows[0].b
    halves = [_joined(rows[i : i + 2], 32) for i in range(0, len(rows), 2)]
    dwords = permute_dwords(_joined(halves, 64), DWORDS)
    name = "llvm.x86.avx512.pshuf.b.512"
    order = b.vector("i8", BYTES)
    mixed = b.intrinsic(name, llvm_type("i8", 64), dwords.bitcast("i8", 64), order)
    return mixed.bitcast("i32", LANES)
