"""Dot products of four activations and four weights per lane: the instruction behind each kernel.

Sixteen lanes of int32 (on AVX2 also eight, with the first of the activations) accumulate
``sum_t a[t] * w[t]`` where a *word* holds four u8 activations,
and one word (``s8``: four int8) or two (``s16``: int16 pairs ``(0, 2)`` and ``(1, 3)``) hold the
weights of a lane. The kinds are

``s8``   any int8 weight;
``s4``   int8 weights with |w| <= 15, for which ``vpmaddubsw`` cannot saturate, and neither can
         the sum of four of them;
``s16``  int16 weights.

All are exact in int32 as long as the total is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Literal, TypeAlias

from uqfc.codegen.builder import Builder
from uqfc.codegen.elements import BYTES, llvm_type
from uqfc.codegen.isa import Isa
from uqfc.codegen.vector import LANES, Value

DotKind: TypeAlias = Literal["s8", "s4", "s16"]
Operand: TypeAlias = tuple[Value, ...]

EVEN_BYTES = 0x00FF00FF


@dataclass(frozen=True)
class Dot:
    """How one ``DotKind`` is done on one machine. Prepared operands can be used many times."""

    words: int
    """Words of weights per lane."""
    activation: Callable[[Value], Operand]
    """From a word of u8, a scalar or [16]."""
    weight: Callable[[tuple[Value, ...]], Operand]
    """From ``words`` words [16]."""
    add: Callable[[Value, Operand, Operand], Value]
    """``accumulator + dot(activation, weight)``."""
    add_many: Callable[[Value, Sequence[Operand], Sequence[Operand]], Value] | None = None
    """``accumulator`` plus at most ``together`` dot products, if that is cheaper than ``add``."""
    together: int = 1
    splat_first: bool = True
    """A broadcast load is cheaper than preparing a scalar and moving it to all lanes."""
    pairs: bool = False
    """Prepared operands are int16: first values 0 and 2 of each word, then 1 and 3."""
    products: Callable[[Operand, Operand], Value] | None = None
    """The sums of products 0, 1 and 2, 3 of each lane, int16 [2 * lanes], if that is cheap."""

    def broadcast(self, scalar: Value) -> Operand:
        """The prepared activation of one word for all lanes."""
        if self.splat_first:
            return self.activation(scalar.splat(LANES))
        return tuple(value.splat(LANES) for value in self.activation(scalar))

    def sum(
        self, accumulator: Value, activations: Sequence[Operand], weights: Sequence[Operand]
    ) -> Value:
        """``accumulator`` plus the dot products of all pairs, ``together`` of them at a time."""
        for first in range(0, len(activations), self.together):
            chosen = slice(first, first + self.together)
            a, w = activations[chosen], weights[chosen]
            if self.add_many:
                accumulator = self.add_many(accumulator, a, w)
            else:
                accumulator = self.add(accumulator, a[0], w[0])
        return accumulator


def dot_for(isa: Isa, kind: DotKind) -> Dot:
    """The fastest exact dot product of that kind."""
    return _DOTS["avxvnni" if isa.avx_vnni else isa.name][kind]


def _same(word: Value) -> Operand:
    return (word,)


def _identity(words: tuple[Value, ...]) -> Operand:
    return words


def _even_odd_unsigned(word: Value) -> Operand:
    """u8 taps 0, 2 and 1, 3 of each word as int16 pairs."""
    return word & EVEN_BYTES, word.shift_right_logical(8) & EVEN_BYTES


def _even_odd_signed(words: tuple[Value, ...]) -> Operand:
    """int8 taps 0, 2 and 1, 3 of each word as int16 pairs."""
    lanes = words[0].lanes
    pairs = words[0].bitcast("i16", 2 * lanes)
    even = (pairs << 8) >> 8
    return even.bitcast("i32", lanes), (pairs >> 8).bitcast("i32", lanes)


# --- AVX-512 VNNI ------------------------------------------------------------------------------


def _vpdpbusd(accumulator: Value, a: Operand, w: Operand) -> Value:
    b = accumulator.b
    kind = llvm_type("i32", LANES)
    operands = (a[0].bitcast("i8", 64), w[0].bitcast("i8", 64))
    return b.intrinsic("llvm.x86.avx512.vpdpbusd.512", kind, accumulator, *operands)


def _vpdpwssd(accumulator: Value, a: Operand, w: Operand) -> Value:
    b = accumulator.b
    kind = llvm_type("i32", LANES)
    for x, y in zip(a, w, strict=True):
        operands = (x.bitcast("i16", 32), y.bitcast("i16", 32))
        accumulator = b.intrinsic("llvm.x86.avx512.vpdpwssd.512", kind, accumulator, *operands)
    return accumulator


# --- AVX2 --------------------------------------------------------------------------------------


ALL_BYTES = 0x01010101
"""Times a byte: that byte in every place of a word."""
YMM_LANES = 8
"""32-bit lanes of a register."""


def _part(word: Value, index: int) -> Value:
    """The register of that index."""
    if word.lanes == YMM_LANES:
        return word
    return word.shuffle(range(YMM_LANES * index, YMM_LANES * (index + 1)))


def _by_register(accumulator: Value, add: Callable[[Value, int], Value]) -> Value:
    """``add(part, index)`` of the registers of the accumulator, one or two."""
    count = accumulator.lanes // YMM_LANES
    return _joined([add(_part(accumulator, index), index) for index in range(count)])


def _joined(parts: Sequence[Value]) -> Value:
    """One or two registers as one vector."""
    if len(parts) == 1:
        return parts[0]
    return parts[0].shuffle(range(2 * parts[0].lanes), parts[1])


def _pmaddwd(b: Builder, x: Value, y: Value) -> Value:
    operands = (x.bitcast("i16", 2 * YMM_LANES), y.bitcast("i16", 2 * YMM_LANES))
    return b.intrinsic("llvm.x86.avx2.pmadd.wd", llvm_type("i32", YMM_LANES), *operands)


def _add_pmaddwd(accumulator: Value, a: Operand, w: Operand) -> Value:
    """Two products at a time: exact for any int16 operands whose sum fits int32."""

    def add(total: Value, index: int) -> Value:
        for x, y in zip(a, w, strict=True):
            total = total + _pmaddwd(total.b, _part(x, index), _part(y, index))
        return total

    return _by_register(accumulator, add)


def _add_pmaddubsw(accumulator: Value, a: Operand, w: Operand) -> Value:
    return _add_pmaddubsws(accumulator, [a], [w])


SUMS_OF_PAIRS = 4
"""Results of ``vpmaddubsw`` that int16 holds the sum of: 4 * 2 * 255 * 15 = 30600."""


def _add_pmaddubsws(accumulator: Value, a: Sequence[Operand], w: Sequence[Operand]) -> Value:
    """At most ``SUMS_OF_PAIRS`` groups of four, summed in int16 before they are widened."""
    pairs = [pair_products(x, y) for x, y in zip(a, w, strict=True)]
    return accumulator + add_pairs(reduce(Value.__add__, pairs))


def pair_products(a: Operand, w: Operand) -> Value:
    """AVX2: u8 by int8, sums of adjacent two as int16; they saturate."""
    b, lanes = w[0].b, w[0].lanes
    name, kind = "llvm.x86.avx2.pmadd.ub.sw", llvm_type("i16", 2 * YMM_LANES)
    parts = [
        b.intrinsic(name, kind, *(_part(v[0], index).bitcast("i8", 4 * YMM_LANES) for v in (a, w)))
        for index in range(lanes // YMM_LANES)
    ]
    return _joined(parts)


def add_evens(pairs: Value) -> Value:
    """AVX2: int16 [16], those of even lanes as int32."""
    b = pairs.b
    return _pmaddwd(b, pairs, b.vector("i16", [1, 0] * YMM_LANES))


def add_pairs(pairs: Value) -> Value:
    """AVX2: int16 [2 * lanes], the sums of adjacent two as int32."""
    b = pairs.b
    ones = b.constant("i16", 1, 2 * YMM_LANES)
    words = pairs.bitcast("i32", pairs.lanes // 2)
    count = words.lanes // YMM_LANES
    return _joined([_pmaddwd(b, _part(words, index), ones) for index in range(count)])


# --- AVX-VNNI ----------------------------------------------------------------------------------


def _vpdpbusd_256(accumulator: Value, a: Operand, w: Operand) -> Value:
    return _add_by_register("llvm.x86.avx512.vpdpbusd.256", accumulator, a[0], w[0], "i8")


def _vpdpwssd_256(accumulator: Value, a: Operand, w: Operand) -> Value:
    for x, y in zip(a, w, strict=True):
        accumulator = _add_by_register("llvm.x86.avx512.vpdpwssd.256", accumulator, x, y, "i16")
    return accumulator


def _add_by_register(name: str, accumulator: Value, x: Value, y: Value, element: str) -> Value:
    """An instruction that multiplies and accumulates the lanes of a register."""
    b = accumulator.b
    lanes = YMM_LANES * 4 // BYTES[element]

    def add(total: Value, index: int) -> Value:
        operands = (_part(v, index).bitcast(element, lanes) for v in (x, y))
        return b.intrinsic(name, llvm_type("i32", YMM_LANES), total, *operands)

    return _by_register(accumulator, add)


# --- anything: LLVM recognises this as ``pmaddwd`` where there is one ----------------------------


def _alternate_int16(word: Value, first: int) -> Value:
    pairs = word.bitcast("i16", 2 * LANES)
    return pairs.shuffle(range(first, 2 * LANES, 2)).sext("i32")


def _add_products(accumulator: Value, a: Operand, w: Operand) -> Value:
    for x, y in zip(a, w, strict=True):
        even = _alternate_int16(x, 0) * _alternate_int16(y, 0)
        odd = _alternate_int16(x, 1) * _alternate_int16(y, 1)
        accumulator = accumulator + (even + odd)
    return accumulator


_VNNI = Dot(1, _same, _identity, _vpdpbusd)
_AVX_VNNI = Dot(1, _same, _identity, _vpdpbusd_256)
_PORTABLE = Dot(
    1, _even_odd_unsigned, _even_odd_signed, _add_products, splat_first=False, pairs=True
)
_DOTS: dict[str, dict[DotKind, Dot]] = {
    "vnni512": {
        "s8": _VNNI,
        "s4": _VNNI,
        "s16": Dot(2, _even_odd_unsigned, _identity, _vpdpwssd, pairs=True),
    },
    "avxvnni": {
        "s8": _AVX_VNNI,
        "s4": _AVX_VNNI,
        "s16": Dot(2, _even_odd_unsigned, _identity, _vpdpwssd_256, pairs=True),
    },
    "avx2": {
        "s8": Dot(1, _even_odd_unsigned, _even_odd_signed, _add_pmaddwd, pairs=True),
        "s4": Dot(
            1,
            _same,
            _identity,
            _add_pmaddubsw,
            _add_pmaddubsws,
            SUMS_OF_PAIRS,
            products=pair_products,
        ),
        "s16": Dot(2, _even_odd_unsigned, _identity, _add_pmaddwd, pairs=True),
    },
    "portable": {
        "s8": _PORTABLE,
        "s4": _PORTABLE,
        "s16": Dot(2, _even_odd_unsigned, _identity, _add_products, splat_first=False, pairs=True),
    },
}
