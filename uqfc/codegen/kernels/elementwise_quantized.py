"""Sums and products of two quantized tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from uqfc.codegen.builder import Builder
from uqfc.codegen.kernels.elementwise_base import Lane, RoundedOp, expect
from uqfc.codegen.kernels.quantizing import is_moderate
from uqfc.codegen.kernels.tensor import Dtype
from uqfc.codegen.vector import Value


class QuantizedOp(RoundedOp):
    """An op of two u8."""

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
        return "qadd" if is_moderate(self.lhs_multiplier, self.rhs_multiplier) else "qadd_nan"

    def scalars(self) -> tuple[float | int, ...]:
        low, high = float(self.qmin - self.zero_point), float(self.qmax - self.zero_point)
        left = (self.lhs_zero_point, float(self.lhs_multiplier))
        right = (self.rhs_zero_point, float(self.rhs_multiplier))
        return *left, *right, low, high, self.zero_point

    def before_rounding(
        self, b: Builder, vectors: Sequence[Sequence[Lane]], scalars: Sequence[Value]
    ) -> list[Value]:
        za, ma, zb, mb = scalars[:4]
        moderate = is_moderate(self.lhs_multiplier, self.rhs_multiplier)
        sums: list[Value] = []
        for (_, left), (_, right) in vectors:
            v = b.to_float(left - za) * ma + b.to_float(right - zb) * mb
            sums.append(v if moderate else b.nan_to_zero(v))
        return sums


@dataclass(frozen=True)
class MulQuantized(QuantizedOp):
    """``numerics.mul_quantized`` on u8."""

    lhs_zero_point: int
    rhs_zero_point: int
    multiplier: float
    zero_point: int
    qmin: int = 0
    qmax: int = 255

    @property
    def label(self) -> str:
        return "qmul" if is_moderate(self.multiplier) else "qmul_nan"

    def scalars(self) -> tuple[float | int, ...]:
        low, high = float(self.qmin - self.zero_point), float(self.qmax - self.zero_point)
        zero_points = (self.lhs_zero_point, self.rhs_zero_point)
        return *zero_points, float(self.multiplier), low, high, self.zero_point

    def before_rounding(
        self, b: Builder, vectors: Sequence[Sequence[Lane]], scalars: Sequence[Value]
    ) -> list[Value]:
        """The product of two integers below 2**8 is exact in float32, too."""
        za, zb, multiplier = scalars[:3]
        moderate = is_moderate(self.multiplier)
        products: list[Value] = []
        for (_, left), (_, right) in vectors:
            v = b.to_float(left - za) * b.to_float(right - zb) * multiplier
            products.append(v if moderate else b.nan_to_zero(v))
        return products
