"""Casts between float32 and 8-bit floats in elementwise kernels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from uqfc.codegen.builder import Builder
from uqfc.codegen.kernels.elementwise_base import ElementwiseOp, Lane, expect
from uqfc.codegen.kernels.float8 import codes_of
from uqfc.codegen.kernels.tensor import Dtype
from uqfc.codegen.vector import Value
from uqfc.float8 import Float8, finite_number


@dataclass(frozen=True)
class Float8Quantize(ElementwiseOp):
    """``float8.quantize``: float32 to codes."""

    scale: float
    form: Float8

    @property
    def label(self) -> str:
        return f"to_{self.form.short}"

    def result(self, operands: Sequence[Dtype]) -> Dtype:
        expect(self, operands, ("f32",))
        return "u8"

    def scalars(self) -> tuple[float | int, ...]:
        return (self.scale,)

    def emit(self, b: Builder, operands: Sequence[Lane], scalars: Sequence[Value]) -> Value:
        return codes_of(b, operands[0][1], scalars[0], self.form)


@dataclass(frozen=True)
class Float8Dequantize(ElementwiseOp):
    """``float8.dequantize``: codes of finite numbers to float32."""

    scale: float
    form: Float8

    @property
    def label(self) -> str:
        return f"from_{self.form.short}"

    def result(self, operands: Sequence[Dtype]) -> Dtype:
        expect(self, operands, ("u8",))
        return "f32"

    def scalars(self) -> tuple[float | int, ...]:
        return (self.scale,)

    def emit(self, b: Builder, operands: Sequence[Lane], scalars: Sequence[Value]) -> Value:
        codes = (operands[0][1] << 24) >> 24
        return finite_number(b, codes, self.form) * scalars[0]
