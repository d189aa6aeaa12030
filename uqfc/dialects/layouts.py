"""Where the elements of a tensor are in a buffer that it may share with others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from xdsl.ir import SSAValue

from uqfc.dialects import nn
from uqfc.dialects.tensors import Shape, int_tuple, shape_of


def row_strides(shape: Shape, pitch: int = 0) -> Shape:
    """Strides in elements of a row-major tensor whose rows are ``pitch`` elements apart; 0: none
    are between them. A row is what the last axis holds."""
    strides = [1] * len(shape)
    step = pitch or prod(shape[-1:])
    for axis in range(len(shape) - 2, -1, -1):
        strides[axis] = step
        step *= shape[axis]
    return tuple(strides)


@dataclass(frozen=True)
class Layout:
    """Element ``i`` is at ``offset + i · strides``, counted in elements."""

    shape: Shape
    strides: Shape
    offset: int = 0

    @staticmethod
    def dense(shape: Shape) -> Layout:
        return Layout(shape, row_strides(shape))

    @property
    def pitch(self) -> int | None:
        """Elements from row to row, as ``row_strides`` takes them; None if there is no such
        number."""
        rows = [
            stride for size, stride in zip(self.shape[:-1], self.strides, strict=False) if size != 1
        ]
        for pitch in (0, *rows[-1:]):
            if self._has(row_strides(self.shape, pitch)):
                return pitch
        return None

    def _has(self, strides: Shape) -> bool:
        """Whether these strides lead to the same elements."""
        own = zip(self.shape, self.strides, strides, strict=True)
        return all(size == 1 or a == b for size, a, b in own)

    def part(self, starts: Shape, shape: Shape) -> Layout:
        """Of the elements from ``starts`` on."""
        moved = sum(s * start for s, start in zip(self.strides, starts, strict=True))
        return Layout(shape, self.strides, self.offset + moved)

    def reshaped(self, shape: Shape) -> Layout | None:
        """Of the same elements under another shape; None where that takes more than strides."""
        pitch = self.pitch
        if pitch is None or (pitch and shape[-1:] != self.shape[-1:]):
            return self if shape == self.shape else None
        return Layout(shape, row_strides(shape, pitch), self.offset)


def parts_of(op: nn.ConcatOp, whole: Layout) -> list[Layout]:
    """Where each input of a concatenation is in the result."""
    axis = op.axis.value.data
    parts: list[Layout] = []
    start = 0
    for value in op.inputs:
        shape = shape_of(value)
        starts = tuple(start if a == axis else 0 for a in range(len(shape)))
        parts.append(whole.part(starts, shape))
        start += shape[axis]
    return parts


def slice_of(op: nn.SliceOp, whole: Layout) -> Layout | None:
    """Where the result of a slice is in its operand; None if the slice leaves elements out."""
    if any(step != 1 for step in int_tuple(op.steps)):
        return None
    return whole.part(int_tuple(op.starts), shape_of(op.result))


def root(value: SSAValue) -> SSAValue:
    """The value whose memory ``value`` shares: reshapes move nothing."""
    while isinstance(value.owner, nn.ReshapeOp):
        value = value.owner.x
    return value


def views(value: SSAValue) -> Sequence[SSAValue]:
    """The value and its reshapes."""
    found = [value]
    for use in value.uses:
        if isinstance(use.operation, nn.ReshapeOp):
            found += views(use.operation.result)
    return found
