"""How ops look when the axes of their operands are permuted.

A permutation ``p`` is that of ``nn.transpose``: ``y = transpose(x, p)`` has
``y.shape[i] = x.shape[p[i]]``. Axis ``i`` of ``y`` is axis ``p[i]`` of ``x``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from xdsl.dialects.builtin import DenseArrayBase
from xdsl.ir import Attribute, Operation, SSAValue

from uqfc.dialects import nn, quant
from uqfc.dialects.quant import UniformType
from uqfc.dialects.tensors import Shape, element_of, int_tuple, integer, ints, shape_of

Permutation: TypeAlias = tuple[int, ...]
Properties: TypeAlias = dict[str, Attribute]


def inverse(p: Permutation) -> Permutation:
    return tuple(p.index(i) for i in range(len(p)))


def is_identity(p: Permutation) -> bool:
    return p == tuple(range(len(p)))


def permuted(shape: Shape, p: Permutation) -> Shape:
    """The shape of ``transpose(x, p)`` for ``x`` of ``shape``."""
    return tuple(shape[i] for i in p)


def moves_only_units(shape: Shape, p: Permutation) -> bool:
    """Whether transposing a tensor of ``shape`` keeps the order of its elements."""
    order = [i for i in p if shape[i] != 1]
    return order == sorted(order)


def extended(p: Permutation, rank: int) -> Permutation:
    """``p`` with leading identity axes, as broadcasting to ``rank`` adds them."""
    lead = rank - len(p)
    return (*range(lead), *(i + lead for i in p))


def unextended_shape(shape: Shape, rank: int) -> Shape:
    return (*(1 for _ in range(rank - len(shape))), *shape)


# --- properties of ops in another layout --------------------------------------------------------


@dataclass(frozen=True)
class LayoutRule:
    """An op that commutes with transposing.

    ``properties(op, p)`` are those of the op that, applied before ``transpose(·, p)``, gives what
    ``op`` gives after it; None if there is no such op with the same bits. ``operands`` is how
    many of the first operands are transposed along (None: all of them).
    """

    properties: Callable[[Any, Permutation], Properties | None]
    operands: int | None = None

    def layout_operands(self, op: Operation) -> tuple[SSAValue, ...]:
        return tuple(op.operands)[: self.operands]


def unchanged(op: Operation, p: Permutation) -> Properties | None:
    del op, p
    return {}


def move_axis(op: nn.ConcatOp | nn.SoftmaxOp | nn.InterpolateOp, p: Permutation) -> Properties:
    return {"axis": integer(p[op.axis.value.data])}


def move_gather(op: nn.GatherOp, p: Permutation) -> Properties | None:
    keeps_rank = len(shape_of(op.indices)) == 1
    return {"axis": integer(p[op.axis.value.data])} if keeps_rank else None


def move_list(attribute: DenseArrayBase[Any], p: Permutation) -> Attribute:
    """One value per axis, in the order of the axes before the transposition."""
    return ints(permuted(int_tuple(attribute), inverse(p)))


def move_slice(op: nn.SliceOp, p: Permutation) -> Properties:
    return {"starts": move_list(op.starts, p), "steps": move_list(op.steps, p)}


def move_pad(op: nn.PadOp, p: Permutation) -> Properties:
    return {"low": move_list(op.low, p), "high": move_list(op.high, p)}


def move_reduce(op: nn.ReduceOp, p: Permutation) -> Properties | None:
    """A reduction goes through its axes in order: they must keep that order."""
    axes = [p[axis] for axis in int_tuple(op.axes)]
    return {"axes": ints(axes)} if axes == sorted(axes) else None


def move_quantized(
    op: quant.QcastOp | quant.DcastOp | quant.ScastOp, p: Permutation
) -> Properties | None:
    """Parameters of one axis stay with it only if the axis keeps its number."""
    for value in (op.x, op.result):
        element = element_of(value)
        if not isinstance(element, UniformType) or element.data.axis is None:
            continue
        if p[element.data.axis] != element.data.axis or element.data.block:
            return None
    return {}


LAYOUT_RULES: Mapping[type[Operation], LayoutRule] = {
    nn.AddOp: LayoutRule(unchanged),
    nn.BroadcastOp: LayoutRule(unchanged),
    nn.CastOp: LayoutRule(unchanged),
    nn.CompareOp: LayoutRule(unchanged),
    nn.ConcatOp: LayoutRule(move_axis),
    nn.DivOp: LayoutRule(unchanged),
    nn.GatherOp: LayoutRule(move_gather, operands=1),
    nn.InterpolateOp: LayoutRule(move_axis, operands=1),
    nn.MaximumOp: LayoutRule(unchanged),
    nn.MinimumOp: LayoutRule(unchanged),
    nn.MulOp: LayoutRule(unchanged),
    nn.PadOp: LayoutRule(move_pad),
    nn.PowOp: LayoutRule(unchanged),
    nn.ReduceOp: LayoutRule(move_reduce),
    nn.SelectOp: LayoutRule(unchanged),
    nn.SliceOp: LayoutRule(move_slice),
    nn.SoftmaxOp: LayoutRule(move_axis),
    nn.SubOp: LayoutRule(unchanged),
    nn.UnaryOp: LayoutRule(unchanged),
    quant.DcastOp: LayoutRule(move_quantized),
    quant.ObserveOp: LayoutRule(unchanged),
    quant.QcastOp: LayoutRule(move_quantized),
    quant.ScastOp: LayoutRule(move_quantized),
}
"""Ops that a transposition can be moved through without changing a bit."""


# --- reshapes -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class ReshapeGroup:
    """Axes of the source and of the result that hold the same elements, none of size 1."""

    source: tuple[int, ...]
    result: tuple[int, ...]


def reshape_groups(source: Shape, result: Shape) -> list[ReshapeGroup] | None:
    """The finest factoring of a reshape into independent ones; None for empty tensors."""
    if 0 in source:
        return None
    left = [i for i, n in enumerate(source) if n != 1]
    right = [i for i, n in enumerate(result) if n != 1]
    groups: list[ReshapeGroup] = []
    while left and right:
        own, other = [left.pop(0)], [right.pop(0)]
        a, b = source[own[0]], result[other[0]]
        while a != b:
            if a < b:
                own.append(left.pop(0))
                a *= source[own[-1]]
            else:
                other.append(right.pop(0))
                b *= result[other[-1]]
        groups.append(ReshapeGroup(tuple(own), tuple(other)))
    return groups


@dataclass(frozen=True)
class SunkReshape:
    """``reshape(transpose(x, p))`` as ``transpose(reshape(transpose(x, first), middle), last)``."""

    first: Permutation
    middle: Shape
    last: Permutation


def sink_through_reshape(x: Shape, p: Permutation, result: Shape) -> SunkReshape | None:
    """None if the axes that the reshape splits or merges are scattered over those of ``x``.

    ``first`` only reorders axes within a group of adjacent ones (the shuffle of a channel
    shuffle); ``last`` moves whole groups.
    """
    groups = reshape_groups(permuted(x, p), result)
    if groups is None:
        return None
    order = [i for i in range(len(x)) if x[i] != 1]
    places = {group: sorted(order.index(p[i]) for i in group.source) for group in groups}
    for spots in places.values():
        if spots != list(range(spots[0], spots[0] + len(spots))):
            return None
    by_place = sorted(groups, key=lambda group: places[group][0])
    moved = iter([p[i] for group in by_place for i in group.source])
    first = tuple(i if x[i] == 1 else next(moved) for i in range(len(x)))
    units = [i for i, n in enumerate(result) if n == 1]
    axes = [*units, *(i for group in by_place for i in group.result)]
    return SunkReshape(first, permuted(result, tuple(axes)), inverse(tuple(axes)))
