"""``numerics.Arithmetic`` on ``vector.Value``s, and the rounding and sums of the contract."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from uqfc.codegen.elements import llvm_type
from uqfc.codegen.vector import LANES, Value

if TYPE_CHECKING:
    from uqfc.codegen.builder import Builder

ROUNDING_MAGIC = 12582912.0
"""1.5 * 2**23: adding it to |v| <= 2**22 leaves rne(v) in the low bits of the sum."""
ROUNDING_MAGIC_BITS = 0x4B400000
SIGN_BIT = -(2**31)
CURRENT_ROUNDING = 4


class VectorArithmetic:
    """Base of ``Builder``: every method emits the IEEE operations that its name says."""

    @property
    def _b(self) -> Builder:
        return cast("Builder", self)

    def _like(self, value: Value | float, model: Value) -> Value:
        if isinstance(value, Value):
            return value.splat(model.lanes)
        return self._b.constant(model.element, value, model.lanes)

    def maximum(self, a: Value, b: Value | float) -> Value:
        """``b if b > a else a`` (one ``maxps``)."""
        other = self._like(b, a)
        if self._b.isa.name == "vnni512" and a.lanes == LANES:
            return self._x86("max", other, a)
        return self._b.select(other.gt(a), other, a)

    def minimum(self, a: Value, b: Value | float) -> Value:
        """``b if b < a else a`` (one ``minps``)."""
        other = self._like(b, a)
        if self._b.isa.name == "vnni512" and a.lanes == LANES:
            return self._x86("min", other, a)
        return self._b.select(other.lt(a), other, a)

    def _x86(self, operation: str, first: Value, second: Value) -> Value:
        """One instruction that LLVM does not merge into what uses it, which would cost two."""
        name = f"llvm.x86.avx512.{operation}.ps.512"
        kind = llvm_type("f32", LANES)
        return self._b.intrinsic(name, kind, first, second, self._b.i32(CURRENT_ROUNDING))

    def select_less(
        self, a: Value, b: Value | float, then: Value | float, other: Value | float
    ) -> Value:
        """``then if a < b else other``; ``then`` and ``other`` are of ``a``'s type if numbers."""
        shape = next((v for v in (then, other) if isinstance(v, Value)), a)
        return self._b.select(a.lt(b), self._like(then, shape), self._like(other, shape))

    def rint(self, a: Value) -> Value:
        """Half to even, for |a| < 2**22; keeps the sign of zero."""
        if self._b.isa.native_round:
            kind = llvm_type("f32", a.lanes)
            return self._b.intrinsic(f"llvm.roundeven.{_suffix(a)}", kind, a)
        bits = self.as_int(a)
        magnitude = self.as_float(bits & ~SIGN_BIT)
        rounded = self.as_int(magnitude + 2.0**23 - 2.0**23)
        return self.as_float(rounded | (bits & SIGN_BIT))

    def sqrt(self, a: Value) -> Value:
        kind = llvm_type("f32", a.lanes)
        return self._b.intrinsic(f"llvm.sqrt.{_suffix(a)}", kind, a)

    def to_int(self, a: Value) -> Value:
        """int32 of an integral float32, |a| < 2**22."""
        return Value(self._b, self._b.ir.fptosi(a.ir, llvm_type("i32", a.lanes)))

    def to_float(self, a: Value) -> Value:
        """float32 of an int32, rounded half to even."""
        return Value(self._b, self._b.ir.sitofp(a.ir, llvm_type("f32", a.lanes)))

    def as_int(self, a: Value) -> Value:
        return a.bitcast("i32", a.lanes)

    def as_float(self, a: Value) -> Value:
        return a.bitcast("f32", a.lanes)

    # --- beyond the protocol -------------------------------------------------------------------

    def clamp(self, v: Value, low: Value | float, high: Value | float) -> Value:
        """``minimum(maximum(v, low), high)``: a NaN stays a NaN."""
        return self.minimum(self.maximum(v, low), high)

    def multiply_add(self, a: Value, x: Value, c: Value) -> Value:
        """``a * x + c``, rounded once. A function of libm on ``portable``."""
        return self._b.intrinsic(f"llvm.fma.{_suffix(a)}", llvm_type("f32", a.lanes), a, x, c)

    def nan_to_zero(self, v: Value) -> Value:
        """+0.0 where ``v`` is NaN."""
        return self._b.select(v.eq(v), v, self._like(0.0, v))

    def round_clamped(self, v: Value, zero_point: Value | int = 0) -> Value:
        """``zero_point + rne(v)`` as int32 for |v| <= 2**22, not NaN: two additions."""
        return self.as_int(v + ROUNDING_MAGIC) + (zero_point - ROUNDING_MAGIC_BITS)

    def tree_sum(self, v: Value) -> Value:
        """``numerics.tree_sum`` of the lanes (a power of two of them) as a scalar."""
        width = v.lanes
        while width > 1:
            width //= 2
            low = v.shuffle(range(width))
            v = low + v.shuffle(range(width, 2 * width))
        return v.extract(0)


class NotNanArithmetic(VectorArithmetic):
    """For values that are not NaN, where the sign of a zero does not matter.

    A bound that is not negative can be applied to the bits as integers: x86 does that on more of
    its pipes than it does ``minps`` on, and epilogues are short of just those.
    """

    def __init__(self, b: Builder) -> None:
        self._builder = b

    @property
    def _b(self) -> Builder:
        return self._builder

    def maximum(self, a: Value, b: Value | float) -> Value:
        return super().maximum(a, b) if self._in_float(b) else self._integers("smax", a, b)

    def minimum(self, a: Value, b: Value | float) -> Value:
        return super().minimum(a, b) if self._in_float(b) else self._integers("smin", a, b)

    def _in_float(self, b: Value | float) -> bool:
        """SSE2 has no such integer operations; an unknown bound may be negative."""
        return self._b.isa.name == "portable" or isinstance(b, Value) or b < 0

    def _integers(self, operation: str, a: Value, b: Value | float) -> Value:
        kind = llvm_type("i32", a.lanes)
        bound = self.as_int(self._like(b, a))
        name = f"llvm.{operation}.v{a.lanes}i32"
        return self.as_float(self._b.intrinsic(name, kind, self.as_int(a), bound))


def _suffix(a: Value) -> str:
    return f"v{a.lanes}f32" if a.lanes else "f32"
