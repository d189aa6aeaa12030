"""Float lanes to u8: ``zero_point + rne(clamp(v, low, high))`` of 64 values at a time.

``low`` and ``high`` are integers, so clamping may follow the rounding, where saturating packs do
most of it: ``min`` with anything that fits int32, convert, pack to int16, add the zero point with
saturation, pack to u8, ``min`` and ``max``, put in order. That is 16 instructions for 64 values,
where vectors one by one take 20. ``Known`` says which of the 16 are not needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from uqfc.codegen.arithmetic import CURRENT_ROUNDING
from uqfc.codegen.builder import Builder
from uqfc.codegen.elements import llvm_type
from uqfc.codegen.isa import Isa
from uqfc.codegen.isa.interleave import permute_dwords
from uqfc.codegen.vector import LANES, Value

SMALL_SUMS = range(-(2**30), 2**23)
"""Sums that are floats when ``2**23`` as a float is added to their bits, if they are not negative;
others are floats below ``2**23`` then."""
PACKED = 4
"""Vectors of 16 that are packed to one of 64 bytes."""
LARGE = 65536.0
"""Saturates, whatever the zero point."""
IN_ORDER_512 = [4 * (i % 4) + i // 4 for i in range(16)]
"""Dwords of a vector that was packed twice within 128-bit lanes, in order."""
IN_ORDER_256 = [0, 4, 1, 5, 2, 6, 3, 7]


@dataclass(frozen=True)
class Known:
    """What is known of values that are packed when the code is made: what it need not do."""

    bounded: bool = False
    """They are below 2**31."""
    whole: bool = False
    """The bounds are those of u8, which is what packing saturates to."""
    from_zero: bool = False
    """The zero point is 0."""
    small: bool = False
    """They are sums, addends included, in ``SMALL_SUMS`` times what is not negative; only where
    ``bounded`` and ``from_zero`` hold, too, as it is of no use elsewhere."""

    @property
    def name(self) -> str:
        """``_bounded_whole_z0_small``, or parts of it."""
        names = {"bounded": self.bounded, "whole": self.whole, "z0": self.from_zero}
        names["small"] = self.small
        return "".join(f"_{name}" for name, known in names.items() if known)


NOTHING_KNOWN = Known()


@dataclass(frozen=True)
class Saturation:
    """The bounds of one function, as scalars of it; make it before the loops that use it.

    ``low``, ``high``: f32, integral, within [-zero_point, 255 - zero_point]; ``zero_point``: i32.
    """

    b: Builder
    low: Value
    high: Value
    zero_point: Value
    known: Known = NOTHING_KNOWN

    def __post_init__(self) -> None:
        if self._packs:  # splat here, not in a loop
            _ = self._zero_points, self._least, self._most

    @property
    def _packs(self) -> bool:
        return packs(self.b.isa)

    @cached_property
    def _zero_points(self) -> Value:
        return self.zero_point.trunc("i16").splat(_PACKS[self.b.isa.name] * 2)

    @cached_property
    def _least(self) -> Value:
        return self._byte(self.low)

    @cached_property
    def _most(self) -> Value:
        return self._byte(self.high)

    def _byte(self, bound: Value) -> Value:
        byte = self.zero_point + self.b.to_int(bound)
        return byte.trunc("i8").splat(_PACKS[self.b.isa.name] * 4)

    def limited(self, v: Value) -> Value:
        """At most ``LARGE``; as integers the bits of floats compare alike with a positive one."""
        if self.known.bounded:
            return v
        bits = (self.b.as_int(v), self.b.as_int(self.b.f32(LARGE, LANES)))
        least = self.b.intrinsic(f"llvm.smin.v{LANES}i32", llvm_type("i32", LANES), *bits)
        return self.b.as_float(least)

    def pack(self, values: Sequence[Value]) -> Value:
        """At most 4 vectors of 16 float32, not NaN, to as many i8, in order."""
        if len(values) < PACKED and (self._packs or len(values) == 3):
            repeated = [*values, *[values[-1]] * (PACKED - len(values))]
            return self.pack(repeated).shuffle(range(LANES * len(values)))
        if self._packs:
            return self._pack_512(values) if self.b.isa.name == "vnni512" else self._avx2(values)
        return joined([self._one(v) for v in values])

    def _one(self, v: Value) -> Value:
        clamped = self.b.clamp(v, self.low, self.high)
        return self.b.round_clamped(clamped, self.zero_point).trunc("i8")

    def _pack_512(self, values: Sequence[Value]) -> Value:
        return permute_dwords(self.pack_in_lanes(values), IN_ORDER_512)

    def pack_in_lanes(self, values: Sequence[Value]) -> Value:
        """Four vectors to 64 i8: 4 values of each, then the next 4 of each, …; needs ``packs``."""
        if self.b.isa.name == "vnni512":
            return self.join_halves(*[self.pack_half(values[i], values[i + 1]) for i in (0, 2)])
        rounded = [self._rounded_eights(v) for v in values]
        return joined([self._pack_eights(half) for half in zip(*rounded, strict=True)])

    def pack_half(self, first: Value, second: Value) -> Value:
        """Two of the four vectors of ``pack_in_lanes``, to 32 i16."""
        return self._integer_half(*[round_to_int(self.b, self.limited(v)) for v in (first, second)])

    def join_halves(self, first: Value, second: Value) -> Value:
        """What ``pack_in_lanes`` gives of two results of ``pack_half``."""
        name = "llvm.x86.avx512.packuswb.512"
        return self._limit(self.b.intrinsic(name, llvm_type("i8", 64), first, second))

    def pack_integers(self, words: Sequence[Value]) -> Value:
        """``pack_in_lanes`` of int32."""
        return self.join_halves(*[self._integer_half(words[i], words[i + 1]) for i in (0, 2)])

    def _integer_half(self, first: Value, second: Value) -> Value:
        name = "llvm.x86.avx512.packssdw.512"
        return self._add(self.b.intrinsic(name, llvm_type("i16", 32), first, second))

    def _avx2(self, values: Sequence[Value]) -> Value:
        packed = [self.pack_in_two_lanes(values[i], values[i + 1]) for i in (0, 2)]
        ordered = [p.bitcast("i32", 8).shuffle(IN_ORDER_256).bitcast("i8", 32) for p in packed]
        return joined(ordered)

    def pack_in_two_lanes(self, first: Value, second: Value) -> Value:
        """Two vectors to 32 i8 (AVX2): values 0-3 and 8-11 of each, then the others."""
        return self._pack_eights([*self._rounded_eights(first), *self._rounded_eights(second)])

    def _rounded_eights(self, v: Value) -> list[Value]:
        """AVX2: rne of the halves of a vector, as i32 [8]."""
        limited = self.limited(v)
        return [
            self.b.intrinsic("llvm.x86.avx.cvt.ps2dq.256", llvm_type("i32", 8), half)
            for half in (limited.shuffle(range(8)), limited.shuffle(range(8, 16)))
        ]

    def _pack_eights(self, eights: Sequence[Value]) -> Value:
        """AVX2: four i32 [8] to 32 i8: values 0-3 of each, then the others."""
        b, name = self.b, "llvm.x86.avx2.packssdw"
        words = [
            self._add(b.intrinsic(name, llvm_type("i16", 16), *eights[i : i + 2])) for i in (0, 2)
        ]
        return self._limit(b.intrinsic("llvm.x86.avx2.packuswb", llvm_type("i8", 32), *words))

    def _add(self, words: Value) -> Value:
        if self.known.from_zero:
            return words
        name = f"llvm.sadd.sat.v{words.lanes}i16"
        return self.b.intrinsic(name, llvm_type("i16", words.lanes), words, self._zero_points)

    def _limit(self, packed: Value) -> Value:
        if self.known.whole:
            return packed
        kind = f"v{packed.lanes}i8"
        result = llvm_type("i8", packed.lanes)
        least = self.b.intrinsic(f"llvm.umin.{kind}", result, packed, self._most)
        return self.b.intrinsic(f"llvm.umax.{kind}", result, least, self._least)


def round_to_int(b: Builder, v: Value) -> Value:
    """AVX-512: rne(v) as int32; the least int32 where that does not fit."""
    mask = b.constant("i1", 1, LANES).bitcast("i16", 0)
    name = "llvm.x86.avx512.mask.cvtps2dq.512"
    operands = (v, b.i32(0, LANES), mask, b.i32(CURRENT_ROUNDING))
    return b.intrinsic(name, llvm_type("i32", LANES), *operands)


_PACKS = {"vnni512": 16, "avx2": 8}
"""Machines with saturating packs: int32 lanes of their registers."""


def packs(isa: Isa) -> bool:
    """Whether packing ``PACKED`` vectors together is better than one by one."""
    return isa.name in _PACKS


def joined(parts: Sequence[Value]) -> Value:
    """Vectors of the same lanes, 1, 2 or 4 of them, one after the other."""
    if len(parts) == 1:
        return parts[0]
    half = len(parts) // 2
    first, second = joined(parts[:half]), joined(parts[half:])
    return first.shuffle(range(2 * first.lanes), second)
