"""Quantize points: where activations are rounded, and to how many levels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation, SSAValue

from uqfc.dialects import nn
from uqfc.dialects.quant import ObserveOp
from uqfc.passes.support.quantizable import LAYERS
from uqfc.qat.options import LayerOptions


@dataclass(frozen=True)
class Point:
    """A quantize point: where it is among the scales, and the levels of its type."""

    index: int
    name: str
    qmin: int
    qmax: int
    symmetric: bool


def points_of(
    module: ModuleOp, layers: Mapping[str, LayerOptions], *, symmetric: bool
) -> dict[str, Point]:
    """Every quantize point of a network, by name; ``layers`` are those that are quantized.

    Four-bit activations are those that a layer multiplies by weights. The network's inputs,
    operands of sums, products and means, and whatever an eight-bit layer asks for keep 8 bits.
    """
    found: dict[str, Point] = {}
    observes = [op for op in module.walk() if isinstance(op, ObserveOp)]
    for name in dict.fromkeys(op.point.data for op in observes):
        levels = [levels_of(op, layers) for op in observes if op.point.data == name]
        qmax = max(levels)
        found[name] = Point(len(found), name, 0, qmax, symmetric)
    return found


def levels_of(op: ObserveOp, layers: Mapping[str, LayerOptions]) -> int:
    """The largest integer that the readers of a point leave it."""
    if is_input(op.x):
        return 255
    readers: list[LayerOptions] = []
    for use in op.result.uses:
        user = use.operation
        if isinstance(user, LAYERS) and use.index == 0 and user.layer in layers:
            readers.append(layers[user.layer])
    four = bool(readers) and all(r.activation_dtype == "int4" for r in readers)
    return 15 if four else 255


def is_input(value: SSAValue) -> bool:
    """Whether a value is an input of the network, moved or not."""
    owner = value.owner
    while isinstance(owner, Operation):
        if not isinstance(owner, nn.TransposeOp | nn.ReshapeOp | ObserveOp):
            return False
        owner = owner.operands[0].owner
    return True
