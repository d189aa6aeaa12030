"""``uint8-inputs``: float32 inputs become uint8, of which each value stands for a real one.

``real = scale * (q - zero_point)`` in float32 (``numerics.dequantize``). Where the network
quantizes such an input, perhaps after moving its elements, it gets the bytes as they are if their
scale and zero point are those of the quantization, and through a table of 256 bytes if not: no
float is computed. Other uses read the dequantized values.

Law: for every uint8 input, the same bits as before for that input dequantized.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import (
    ArrayAttr,
    FloatAttr,
    FunctionType,
    IntegerAttr,
    ModuleOp,
    StringAttr,
    f32,
)
from xdsl.dialects.func import FuncOp
from xdsl.ir import BlockArgument, Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.rewriter import InsertPoint, Rewriter

from uqfc.dialects import nn
from uqfc.dialects.qnn import DequantizeOp, LookupOp, QuantizeOp
from uqfc.dialects.tensors import element_of, integer, real, shape_of, tensor_type, ui8
from uqfc.errors import UqfcError
from uqfc.numerics import dequantize, quantize
from uqfc.passes.support.rewriting import rebuilt

MOVEMENT = (nn.TransposeOp, nn.ReshapeOp, nn.SliceOp)
SCALES, ZERO_POINTS = "input_scales", "input_zero_points"
"""Attributes of the function: of every input, scale 0 where it is not such an input."""


@dataclass(frozen=True)
class UInt8:
    """An input of uint8. Without scale and zero point: those that the network quantizes it with."""

    scale: float | None = None
    zero_point: int | None = None


@dataclass(frozen=True)
class Uint8InputsPass(ModulePass):
    """Of the inputs named in ``types``. UqfcError if one cannot be uint8."""

    name = "uint8-inputs"
    types: Mapping[str, UInt8] = field(default_factory=dict[str, UInt8])

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for function in op.ops:
            if isinstance(function, FuncOp) and self.types:
                convert(function, self.types)


def convert(function: FuncOp, types: Mapping[str, UInt8]) -> None:
    names = [n.data for n in cast("ArrayAttr[StringAttr]", function.attributes["input_names"])]
    for name in types:
        if name not in names:
            raise UqfcError(f"input types: no input '{name}'; the inputs are: {', '.join(names)}")
    scales, zero_points = [0.0] * len(names), [0] * len(names)
    for argument in list(function.body.block.args):
        name = names[argument.index]
        if name in types:
            scale, zero_point = parameters(name, argument, types[name])
            scales[argument.index], zero_points[argument.index] = scale, zero_point
            take_bytes(argument, scale, zero_point)
    function.attributes[SCALES] = ArrayAttr([real(scale) for scale in scales])
    function.attributes[ZERO_POINTS] = ArrayAttr([integer(z) for z in zero_points])
    outputs = list(function.function_type.outputs)
    arguments = [a.type for a in function.body.block.args]
    function.properties["function_type"] = FunctionType.from_lists(arguments, outputs)


def stands_for_bytes(function: FuncOp, index: int) -> tuple[float, int]:
    """Scale and zero point of an input of a converted function; scale 0 for any other input."""
    if SCALES not in function.attributes:
        return 0.0, 0
    scales = cast("ArrayAttr[FloatAttr]", function.attributes[SCALES])
    zero_points = cast("ArrayAttr[IntegerAttr]", function.attributes[ZERO_POINTS])
    return scales.data[index].value.data, zero_points.data[index].value.data


def parameters(name: str, argument: BlockArgument, given: UInt8) -> tuple[float, int]:
    """Scale (a float32) and zero point. UqfcError where there are none, or wrong ones."""
    where = f"input types: input '{name}'"
    if element_of(argument) != f32:
        raise UqfcError(f"{where} is {element_of(argument)}; only float32 can become uint8")
    if (given.scale is None) != (given.zero_point is None):
        raise UqfcError(f"{where}: give both scale and zero point, or none")
    if given.scale is not None and given.zero_point is not None:
        with np.errstate(over="ignore"):
            scale = float(np.float32(given.scale))
        if not (0 < scale < float("inf") and 0 <= given.zero_point <= 255):
            raise UqfcError(
                f"{where}: scale {given.scale}, zero point {given.zero_point}; accepted: a finite "
                "float32 above 0, and 0 to 255"
            )
        return scale, given.zero_point
    found = {(q.scale.value.data, q.zero_point.value.data) for q in quantizations(argument)}
    if len(found) != 1:
        raise UqfcError(
            f"{where} is quantized in {len(found)} ways: say what a byte stands for, "
            f"scale * (q - zero_point), as {name}=uint8:SCALE:ZERO_POINT"
        )
    return found.pop()


def quantizations(value: SSAValue) -> list[QuantizeOp]:
    """What quantizes the value, also after its elements were moved."""
    found: list[QuantizeOp] = []
    for use in value.uses:
        if isinstance(use.operation, QuantizeOp):
            found.append(use.operation)
        elif isinstance(use.operation, MOVEMENT):
            found += quantizations(use.operation.results[0])
    return found


def take_bytes(argument: BlockArgument, scale: float, zero_point: int) -> None:
    """Make the argument ui8."""
    start = InsertPoint.at_start(argument.block)
    source = Rewriter.replace_value_with_new_type(argument, tensor_type(shape_of(argument), ui8))
    floats = DequantizeOp(source, scale, zero_point)
    source.replace_uses_with_if(floats.result, lambda use: use.operation is not floats)
    Rewriter.insert_op(floats, start)
    move_bytes(source, floats.result, scale, zero_point)


def move_bytes(source: SSAValue, floats: SSAValue, scale: float, zero_point: int) -> None:
    """``floats`` is the dequantized ``source``: quantizations of it read ``source`` instead."""
    for op in [use.operation for use in floats.uses]:
        if isinstance(op, QuantizeOp):
            Rewriter.replace_op(op, [], [requantized(op, source, scale, zero_point)])
        elif isinstance(op, MOVEMENT):
            kind = tensor_type(shape_of(op.results[0]), ui8)
            moved = rebuilt(op, [source, *op.operands[1:]], kind)
            Rewriter.insert_op(moved, InsertPoint.before(op))
            move_bytes(moved.results[0], op.results[0], scale, zero_point)
            if moved.results[0].first_use is None:
                Rewriter.erase_op(moved)
    owner = floats.owner
    if floats.first_use is None and isinstance(owner, Operation):
        Rewriter.erase_op(owner)


def requantized(op: QuantizeOp, source: SSAValue, scale: float, zero_point: int) -> SSAValue:
    """The bytes that ``op`` gives for the dequantized ``source``."""
    every = np.arange(256, dtype=np.int32)
    reals = dequantize(every, np.array(scale, np.float32), np.array(zero_point, np.int32))
    own = np.array(op.scale.value.data, np.float32), np.array(op.zero_point.value.data, np.int32)
    table = quantize(reals, *own, op.qmin.value.data, op.qmax.value.data)
    if np.array_equal(table, every):
        return source
    constant = nn.ConstantOp(table.astype(np.uint8))
    lookup = LookupOp(source, constant)
    Rewriter.insert_op([constant, lookup], InsertPoint.before(op))
    return lookup.result
