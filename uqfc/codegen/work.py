"""What a launch has to do, whichever kernel does it: multiply-accumulates, and bytes to move.

The one place where they are counted: the profile divides by times, the cost model by rates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any, Literal, TypeAlias

from xdsl.dialects.builtin import f32
from xdsl.ir import Operation

from uqfc.dialects import nn, qnn
from uqfc.dialects.nn import ConstantOp
from uqfc.dialects.qkernel import LaunchOp, memref_bytes
from uqfc.dialects.tensors import (
    element_count,
    element_of,
    f8_e4m3,
    f8_e5m2,
    i4,
    i16,
    shape_of,
    ui2,
    ui4,
)

MacKind: TypeAlias = Literal["s8", "s4", "s16", "f32"]
"""Of the weights: as ``isa.dot.DotKind``, or float32."""


@dataclass(frozen=True)
class Work:
    """Of one launch; every operand and the result are counted once, but no part in place."""

    macs: int
    """Multiply-accumulates, without those with padded rows, columns or channels."""
    kind: MacKind | None
    """Of the multiply-accumulates; None where there are none."""
    constant_bytes: int
    """Weights as they are stored (INT4: packed, after ``pack-weights``) and other constants."""
    activation_bytes: int
    """Operands that other launches or the caller wrote, and the result."""

    @property
    def bytes(self) -> int:
        return self.constant_bytes + self.activation_bytes


def work_of(launch: LaunchOp) -> Work:
    """The work of a launch, before or after the memory plan."""
    macs = 0
    kinds: list[MacKind] = []
    for op in launch.meaning:
        reduction = REDUCTIONS.get(type(op))
        if reduction is not None:
            macs += element_count(shape_of(op.results[0])) * reduction(op)
            kinds.append(mac_kind(op))
    constants = [v for v in launch.inputs if isinstance(v.owner, ConstantOp)]
    others = [v for v in launch.inputs if not isinstance(v.owner, ConstantOp)]
    moved = [*others, *launch.into, *launch.outputs]
    return Work(
        macs,
        kinds[0] if kinds else None,
        sum(memref_bytes(v.type) for v in constants),
        sum(memref_bytes(v.type) for v in moved) - bytes_in_place(launch),
    )


def bytes_in_place(launch: LaunchOp) -> int:
    """Of parts that a concatenation need not write; nor read, unless it has them twice."""
    op = launch.meaning[-1]
    if not isinstance(op, nn.ConcatOp):
        return 0
    parts = [launch.operand_of(value) for value in op.inputs]
    placed = [parts[i] for i in launch.parts_in_place]
    return sum(memref_bytes(v.type) * (2 if parts.count(v) == 1 else 1) for v in placed)


def mac_kind(op: Operation) -> MacKind:
    """How a layer's or a product's right operand is multiplied (8-bit floats: decoded)."""
    element = element_of(op.operands[1])
    if element in (f32, f8_e4m3, f8_e5m2):
        return "f32"
    if element == i16:
        return "s16"
    return "s4" if element in (i4, ui4, ui2) else "s8"


def _taps(op: Any) -> int:
    """Reduction of a layer: weights are [channels, ...taps]."""
    return prod(shape_of(op.weight)[1:])


def _columns(op: Any) -> int:
    """Reduction of a product [..., M, K] x [..., K, N]."""
    return shape_of(op.lhs)[-1]


REDUCTIONS: dict[type[Operation], Callable[[Any], int]] = {
    nn.Conv2dOp: _taps,
    nn.LinearOp: _taps,
    nn.MatmulOp: _columns,
    qnn.QConv2dOp: _taps,
    qnn.QLinearOp: _taps,
    qnn.QMatmulOp: _columns,
    qnn.Float8Conv2dOp: _taps,
    qnn.Float8LinearOp: _taps,
}
"""Products in each element of an op's result."""
