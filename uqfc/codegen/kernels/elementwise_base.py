"""What an op of an elementwise kernel is."""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TypeAlias

from uqfc.codegen.builder import Builder
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


def bits_of(value: float) -> str:
    return struct.pack(">f", value).hex()


def expect(op: ElementwiseOp, operands: Sequence[Dtype], *accepted: Sequence[Dtype]) -> None:
    """ValueError unless operand i has one of the types ``accepted[i]``."""
    fits = len(operands) == len(accepted) and all(
        o in a for o, a in zip(operands, accepted, strict=True)
    )
    if not fits:
        raise ValueError(f"{op.label}: operands are {list(operands)}, expected {list(accepted)}")
