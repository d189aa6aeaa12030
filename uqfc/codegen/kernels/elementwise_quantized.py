"""Sums and products of two quantized tensors."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from uqfc.codegen.builder import Builder
from uqfc.codegen.kernels.elementwise_base import Lane, RoundedOp, expect
from uqfc.codegen.kernels.tensor import Dtype
from uqfc.codegen.vector import Value


BYTE = 255
"""The largest magnitude of a difference of two u8."""
LIMIT = 2.0**30


class QuantizedOp(RoundedOp):
    """An op of two u8."""

    @property
    @abstractmethod
    def largest(self) -> float:
        """No value before rounding has a larger magnitude, but for its rounding to float32."""

    @property
    def bounded(self) -> bool:
        return self.largest <= LIMIT

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
        return "qadd" if self.bounded else "qadd_nan"

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
            v = b.to_float(left - za) * ma + b.to_float(right - zb) * mb
            sums.append(v if self.bounded else b.nan_to_zero(v))
        return sums


@dataclass(frozen=True)
class MulQuantized(QuantizedOp):
    """``numerics.mul_quantized`` on u8. Fastest where it is ``rhs`` that many vectors share."""

    lhs_zero_point: int
    rhs_zero_point: int
    multiplier: float
    zero_point: int
    qmin: int = 0
    qmax: int = 255

    @property
    def label(self) -> str:
        return "qmul" if self.bounded else "qmul_nan"

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
        """``f32(a - za) * g`` with ``g = f32(b - zb)`` as ``f32(a) * g - za * g``: all exact."""
        za, zb, multiplier = scalars[:3]
        offset = b.to_float(0 - za)
        products: list[Value] = []
        for (_, left), (_, right) in vectors:
            factor = b.to_float(right - zb)
            v = b.exact_multiply_add(b.to_float(left), factor, factor * offset) * multiplier
            products.append(v if self.bounded else b.nan_to_zero(v))
        return products
