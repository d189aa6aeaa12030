"""What an op of an elementwise kernel is."""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, TypeAlias

from uqfc.codegen.builder import Builder
from uqfc.codegen.kernels.saturating import NOTHING_KNOWN, Known, Saturation
from uqfc.codegen.kernels.tensor import Dtype
from uqfc.codegen.vector import Value

Lane: TypeAlias = tuple[Dtype, Value]
"""A value and the element type that it stands for (see ``tensor.to_lanes``)."""


class ElementwiseOp(ABC):
    """An op on lanes. What its code depends on is in ``label``; other numbers are ``scalars``."""

    @property
    @abstractmethod
    def label(self) -> str:
        """Name and structural parameters, letters, digits and underscores."""

    @abstractmethod
    def result(self, operands: Sequence[Dtype]) -> Dtype:
        """Element type of the result; ValueError if the op does not take the operands."""

    def scalars(self) -> tuple[float | int, ...]:
        """Arguments of the emitted function: floats are float32, ints int32."""
        return ()

    @abstractmethod
    def emit(self, b: Builder, operands: Sequence[Lane], scalars: Sequence[Value]) -> Value:
        """The result's lanes."""


class RoundedOp(ElementwiseOp):
    """``zero_point + rne(clamp(v, low, high))`` as u8; these three are the last scalars.

    So four vectors can be packed to bytes together (``saturating``), where there are so many.
    """

    takes_biased: ClassVar[bool] = False
    """Operands are u8, and those of four vectors that are packed together may be ``biased``."""

    @abstractmethod
    def before_rounding(
        self, b: Builder, vectors: Sequence[Sequence[Lane]], scalars: Sequence[Value]
    ) -> list[Value]:
        """``v`` of several vectors, given the operands of each: float32, not NaN."""

    @property
    def known(self) -> Known:
        """Of what is rounded."""
        return NOTHING_KNOWN

    def saturation(self, b: Builder, scalars: Sequence[Value]) -> Saturation:
        """What is done last with the vectors of ``before_rounding``."""
        low, high, zero_point = scalars[-3:]
        return Saturation(b, low, high, zero_point, self.known)

    def emit(self, b: Builder, operands: Sequence[Lane], scalars: Sequence[Value]) -> Value:
        low, high, zero_point = scalars[-3:]
        (v,) = self.before_rounding(b, [operands], scalars)
        return b.round_clamped(b.clamp(v, low, high), zero_point)


def bits_of(value: float) -> str:
    return struct.pack(">f", value).hex()


def expect(op: ElementwiseOp, operands: Sequence[Dtype], *accepted: Sequence[Dtype]) -> None:
    """ValueError unless operand i has one of the types ``accepted[i]``."""
    fits = len(operands) == len(accepted) and all(
        o in a for o, a in zip(operands, accepted, strict=True)
    )
    if not fits:
        raise ValueError(f"{op.label}: operands are {list(operands)}, expected {list(accepted)}")
