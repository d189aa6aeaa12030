"""Sums and products of two quantized tensors."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from uqfc.codegen.builder import Builder
from uqfc.codegen.kernels.biased import BIAS
from uqfc.codegen.kernels.elementwise_base import Lane, RoundedOp, expect
from uqfc.codegen.kernels.saturating import Known
from uqfc.codegen.kernels.tensor import Dtype
from uqfc.codegen.vector import Value

BYTE = 255
"""The largest magnitude of a difference of two u8."""
LIMIT = 2.0**30


class QuantizedOp(RoundedOp):
    """An op of two u8."""

    takes_biased = True
    zero_point: int
    qmin: int
    qmax: int

    @property
    @abstractmethod
    def largest(self) -> float:
        """No value before rounding has a larger magnitude, but for its rounding to float32."""

    @property
    def known(self) -> Known:
        whole = (self.qmin, self.qmax) == (0, BYTE)
        return Known(self.largest <= LIMIT, whole, self.zero_point == 0)

    def result(self, operands: Sequence[Dtype]) -> Dtype:
        expect(self, operands, ("u8",), ("u8",))
        return "u8"


@dataclass(frozen=True)
class AddQuantized(QuantizedOp):
    """``numerics.add_quantized`` on u8."""

    lhs_zero_point: int
    lhs_multiplier: float
    rhs_zero_point: int
    rhs_multiplier: float
    zero_point: int
    qmin: int = 0
    qmax: int = 255

    @property
    def label(self) -> str:
        return f"qadd{self.known.name}"

    @property
    def largest(self) -> float:
        return BYTE * (abs(self.lhs_multiplier) + abs(self.rhs_multiplier))

    def scalars(self) -> tuple[float | int, ...]:
        low, high = float(self.qmin - self.zero_point), float(self.qmax - self.zero_point)
        left = (self.lhs_zero_point, float(self.lhs_multiplier))
        right = (self.rhs_zero_point, float(self.rhs_multiplier))
        return *left, *right, low, high, self.zero_point

    def before_rounding(
        self, b: Builder, vectors: Sequence[Sequence[Lane]], scalars: Sequence[Value]
    ) -> list[Value]:
        za, ma, zb, mb = scalars[:4]
        sums: list[Value] = []
        for (_, left), (_, right) in vectors:
            v = _difference(left, za) * ma + _difference(right, zb) * mb
            sums.append(v if self.known.bounded else b.nan_to_zero(v))
        return sums


@dataclass(frozen=True)
class MulQuantized(QuantizedOp):
    """``numerics.mul_quantized`` on u8; many vectors share ``rhs``, or ``lhs`` if that is said."""

    lhs_zero_point: int
    rhs_zero_point: int
    multiplier: float
    zero_point: int
    qmin: int = 0
    qmax: int = 255
    shares_lhs: bool = False

    @property
    def label(self) -> str:
        kind = "qmul_by_lhs" if self.shares_lhs else "qmul"
        return f"{kind}{self.known.name}"

    @property
    def largest(self) -> float:
        return BYTE * BYTE * abs(self.multiplier)

    def scalars(self) -> tuple[float | int, ...]:
        low, high = float(self.qmin - self.zero_point), float(self.qmax - self.zero_point)
        zero_points = (self.lhs_zero_point, self.rhs_zero_point)
        return *zero_points, float(self.multiplier), low, high, self.zero_point

    def before_rounding(
        self, b: Builder, vectors: Sequence[Sequence[Lane]], scalars: Sequence[Value]
    ) -> list[Value]:
        """``f32(a - za) * g`` exactly; ``g = f32(b - zb)`` is shared.

        On AVX-512 as ``A * g - Z * g``, where ``A`` and ``Z`` are ``a`` and ``za`` or ``BIAS`` more
        than these: integers of at most ``2**15 + 255``, whose products with ``g``, at most 255, are
        below ``2**24``. So ``Z * g`` is rounded to itself, and the one rounding of the other
        product and the difference, ``(a - za) * g``, leaves what is an integer below ``2**16``.
        AVX2 has no registers for ``Z * g``, too.
        """
        za, zb, multiplier = scalars[:3]
        if self.shares_lhs:
            za, zb, vectors = zb, za, [(rhs, lhs) for lhs, rhs in vectors]
        products: list[Value] = []
        for (_, own), (_, shared) in vectors:
            factor = _difference(shared, zb)
            if b.isa.name == "vnni512":
                a, zero = _floats(own, za)
                product = b.multiply_add(a, factor, factor * -zero)
            else:
                product = _difference(own, za) * factor
            v = product * multiplier
            products.append(v if self.known.bounded else b.nan_to_zero(v))
        return products


def _floats(byte: Value, zero_point: Value) -> tuple[Value, Value]:
    """float32 of a u8 and of a zero point, exactly; both more ``BIAS`` if the u8 is ``biased``."""
    b = byte.b
    if byte.element == "f32":
        return byte, b.to_float(zero_point) + BIAS
    return b.to_float(byte), b.to_float(zero_point)


def _difference(byte: Value, zero_point: Value) -> Value:
    """``f32(byte - zero_point)``, of integers below ``2**24``: exact."""
    value, zero = _floats(byte, zero_point)
    return value - zero
