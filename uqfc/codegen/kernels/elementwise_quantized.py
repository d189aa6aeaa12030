"""Ops on two quantized tensors, whose results are rounded and clamped to u8 last.

So four vectors can be packed to bytes together (``saturating``), where there are so many.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from uqfc.codegen.builder import Builder
from uqfc.codegen.kernels.elementwise_base import ElementwiseOp, Lane, expect
from uqfc.codegen.kernels.quantizing import is_moderate
from uqfc.codegen.kernels.saturating import Saturation
from uqfc.codegen.kernels.tensor import Dtype
from uqfc.codegen.vector import Value


class QuantizedOp(ElementwiseOp):
    """``zero_point + rne(clamp(v, low, high))`` of two u8; these three are the last scalars."""

    def result(self, operands: Sequence[Dtype]) -> Dtype:
        expect(self, operands, ("u8",), ("u8",))
        return "u8"

    @abstractmethod
    def before_rounding(
        self, b: Builder, operands: Sequence[Lane], scalars: Sequence[Value]
    ) -> Value:
        """``v``: float32, not NaN."""

    def saturation(self, b: Builder, scalars: Sequence[Value]) -> Saturation:
        """What is done last with the vectors of ``before_rounding``."""
        low, high, zero_point = scalars[-3:]
        return Saturation(b, low, high, zero_point)

    def emit(self, b: Builder, operands: Sequence[Lane], scalars: Sequence[Value]) -> Value:
        low, high, zero_point = scalars[-3:]
        v = self.before_rounding(b, operands, scalars)
        return b.round_clamped(b.clamp(v, low, high), zero_point)


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
        self, b: Builder, operands: Sequence[Lane], scalars: Sequence[Value]
    ) -> Value:
        za, ma, zb, mb = scalars[:4]
        left = b.to_float(operands[0][1] - za) * ma
        right = b.to_float(operands[1][1] - zb) * mb
        v = left + right
        if not is_moderate(self.lhs_multiplier, self.rhs_multiplier):
            v = b.nan_to_zero(v)
        return v


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
        self, b: Builder, operands: Sequence[Lane], scalars: Sequence[Value]
    ) -> Value:
        za, zb, multiplier = scalars[:3]
        exact = (operands[0][1] - za) * (operands[1][1] - zb)
        v = b.to_float(exact) * multiplier
        if not is_moderate(self.multiplier):
            v = b.nan_to_zero(v)
        return v
