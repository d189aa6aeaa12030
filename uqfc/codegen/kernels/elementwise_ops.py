"""The vocabulary of elementwise kernels: ops on lanes, each with its meaning in ``numerics``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from uqfc.codegen.builder import Builder
from uqfc.codegen.kernels.elementwise_base import (
    ElementwiseOp,
    Lane,
    RoundedOp,
    bits_of,
    expect,
)
from uqfc.codegen.kernels.elementwise_integers import (
    convert,
    divide,
    integer_power,
    wrap,
)
from uqfc.codegen.kernels.quantizing import quotients, reciprocal_is_safe
from uqfc.codegen.kernels.tensor import Dtype
from uqfc.codegen.vector import Value
from uqfc.elementary import UNARY
from uqfc.elementary_special import power as float_power
from uqfc.numerics import Activation


@dataclass(frozen=True)
class Unary(ElementwiseOp):
    """``elementary.UNARY[activation.name]`` of a float32."""

    activation: Activation

    @property
    def label(self) -> str:
        return "_".join([self.activation.name, *map(bits_of, self.activation.params)])

    def result(self, operands: Sequence[Dtype]) -> Dtype:
        expect(self, operands, ("f32",))
        return "f32"

    def emit(self, b: Builder, operands: Sequence[Lane], scalars: Sequence[Value]) -> Value:
        return UNARY[self.activation.name].f32(b, operands[0][1], *self.activation.params)


BinaryKind: TypeAlias = Literal["add", "sub", "mul", "div", "maximum", "minimum", "pow"]


@dataclass(frozen=True)
class Binary(ElementwiseOp):
    """``nn.add``, ``nn.sub`` …: both operands of one type. Integers wrap around."""

    kind: BinaryKind

    @property
    def label(self) -> str:
        return self.kind

    def result(self, operands: Sequence[Dtype]) -> Dtype:
        numbers: tuple[Dtype, ...] = ("f32", "u8", "i8", "i32", "i64")
        masks: tuple[Dtype, ...] = ("i1",) if self.kind in ("maximum", "minimum") else ()
        expect(self, operands, (*numbers, *masks), operands[:1])
        return operands[0]

    def emit(self, b: Builder, operands: Sequence[Lane], scalars: Sequence[Value]) -> Value:
        (dtype, x), (_, y) = operands
        match self.kind:
            case "add":
                return wrap(dtype, x + y)
            case "sub":
                return wrap(dtype, x - y)
            case "mul":
                return wrap(dtype, x * y)
            case "div":
                return x / y if dtype == "f32" else wrap(dtype, divide(x, y))
            case "maximum" if dtype == "i1":
                return x | y
            case "minimum" if dtype == "i1":
                return x & y
            case "maximum":
                return b.select(y.gt(x), y, x)
            case "minimum":
                return b.select(y.lt(x), y, x)
            case "pow":
                return float_power(b, x, y) if dtype == "f32" else integer_power(dtype, x, y)


Predicate: TypeAlias = Literal["eq", "ne", "lt", "le", "gt", "ge"]
OPERATORS: dict[Predicate, str] = {
    "eq": "==",
    "ne": "!=",
    "lt": "<",
    "le": "<=",
    "gt": ">",
    "ge": ">=",
}


@dataclass(frozen=True)
class Compare(ElementwiseOp):
    """``nn.compare``: with a NaN only ``ne`` is true."""

    predicate: Predicate

    @property
    def label(self) -> str:
        return self.predicate

    def result(self, operands: Sequence[Dtype]) -> Dtype:
        expect(self, operands, ("f32", "u8", "i8", "i32", "i64", "i1"), operands[:1])
        return "i1"

    def emit(self, b: Builder, operands: Sequence[Lane], scalars: Sequence[Value]) -> Value:
        (dtype, x), (_, y) = operands
        if dtype == "i1":
            x, y = x.zext("i32"), y.zext("i32")
        if self.predicate == "ne":
            return x.eq(y) ^ 1
        return x.compare(OPERATORS[self.predicate], y)


@dataclass(frozen=True)
class Select(ElementwiseOp):
    """``nn.select``: condition, then, other."""

    @property
    def label(self) -> str:
        return "select"

    def result(self, operands: Sequence[Dtype]) -> Dtype:
        anything: tuple[Dtype, ...] = ("f32", "u8", "i8", "i32", "i64", "i1")
        expect(self, operands, ("i1",), anything, operands[1:2])
        return operands[1]

    def emit(self, b: Builder, operands: Sequence[Lane], scalars: Sequence[Value]) -> Value:
        return b.select(operands[0][1], operands[1][1], operands[2][1])


@dataclass(frozen=True)
class Cast(ElementwiseOp):
    """``nn.cast``: float to int truncates and saturates, NaN gives 0; integers wrap around."""

    to: Dtype

    @property
    def label(self) -> str:
        return f"to_{self.to}"

    def result(self, operands: Sequence[Dtype]) -> Dtype:
        expect(self, operands, ("f32", "u8", "i8", "i32", "i64", "i1"))
        return self.to

    def emit(self, b: Builder, operands: Sequence[Lane], scalars: Sequence[Value]) -> Value:
        return convert(operands[0][0], self.to, operands[0][1])


@dataclass(frozen=True)
class Quantize(RoundedOp):
    """``numerics.quantize``: float32 to u8 in [qmin, qmax]."""

    scale: float
    zero_point: int
    qmin: int = 0
    qmax: int = 255

    @property
    def label(self) -> str:
        return "quantize" if reciprocal_is_safe(self.scale) else "quantize_by_division"

    def result(self, operands: Sequence[Dtype]) -> Dtype:
        expect(self, operands, ("f32",))
        return "u8"

    def scalars(self) -> tuple[float | int, ...]:
        low, high = float(self.qmin - self.zero_point), float(self.qmax - self.zero_point)
        return self.scale, low, high, self.zero_point

    def before_rounding(
        self, b: Builder, vectors: Sequence[Sequence[Lane]], scalars: Sequence[Value]
    ) -> list[Value]:
        values = [operands[0][1] for operands in vectors]
        return quotients(b, values, scalars[0], reciprocal_is_safe(self.scale))


@dataclass(frozen=True)
class Dequantize(ElementwiseOp):
    """``numerics.dequantize``: u8 or int32 to float32."""

    scale: float
    zero_point: int

    @property
    def label(self) -> str:
        return "dequantize"

    def result(self, operands: Sequence[Dtype]) -> Dtype:
        expect(self, operands, ("u8", "i32"))
        return "f32"

    def scalars(self) -> tuple[float | int, ...]:
        return self.scale, self.zero_point

    def emit(self, b: Builder, operands: Sequence[Lane], scalars: Sequence[Value]) -> Value:
        return b.to_float(operands[0][1] - scalars[1]) * scalars[0]
