"""Kernels of chains of elementwise ops, with transposes of operands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from xdsl.dialects.builtin import f32, i1, i32, i64
from xdsl.ir import Attribute, BlockArgument, Operation, SSAValue

from uqfc.codegen.isa import Isa
from uqfc.codegen.kernels.elementwise import ElementwiseKernel, Input, Step
from uqfc.codegen.kernels.elementwise_float8 import Float8Dequantize, Float8Quantize
from uqfc.codegen.kernels.elementwise_ops import (
    Binary,
    BinaryKind,
    Cast,
    Compare,
    Dequantize,
    ElementwiseOp,
    Predicate,
    Quantize,
    Select,
    Unary,
)
from uqfc.codegen.kernels.elementwise_quantized import AddQuantized, MulQuantized
from uqfc.codegen.kernels.tensor import Dtype
from uqfc.codegen.lowering.registry import RESULT, Choice, choice_of, lowering
from uqfc.dialects import nn, qnn
from uqfc.dialects.layouts import row_strides
from uqfc.dialects.qkernel import LaunchOp
from uqfc.dialects.qnn import format_of
from uqfc.dialects.tensors import (
    element_count,
    element_of,
    f8_e4m3,
    f8_e5m2,
    i2,
    i4,
    i8,
    int_tuple,
    shape_of,
    ui2,
    ui4,
    ui8,
)

# Elements below 8 bits take a byte each outside of packed weights; 8-bit floats are their codes.
DTYPES: dict[Attribute, Dtype] = {
    f32: "f32",
    ui8: "u8",
    i8: "i8",
    ui4: "u8",
    i4: "i8",
    ui2: "u8",
    i2: "i8",
    i32: "i32",
    i64: "i64",
    i1: "i1",
    f8_e4m3: "u8",
    f8_e5m2: "u8",
}

BINARY: dict[type[Operation], BinaryKind] = {
    nn.AddOp: "add",
    nn.SubOp: "sub",
    nn.MulOp: "mul",
    nn.DivOp: "div",
    nn.MaximumOp: "maximum",
    nn.MinimumOp: "minimum",
    nn.PowOp: "pow",
}


def dtype_of(value: SSAValue) -> Dtype:
    return DTYPES[element_of(value)]


def quantize(op: qnn.QuantizeOp) -> ElementwiseOp:
    bounds = op.qmin.value.data, op.qmax.value.data
    return Quantize(op.scale.value.data, op.zero_point.value.data, *bounds)


def add(op: qnn.QAddOp) -> ElementwiseOp:
    return AddQuantized(
        op.lhs_zero_point.value.data,
        op.lhs_multiplier.value.data,
        op.rhs_zero_point.value.data,
        op.rhs_multiplier.value.data,
        op.zero_point.value.data,
        op.qmin.value.data,
        op.qmax.value.data,
    )


def mul(op: qnn.QMulOp) -> ElementwiseOp:
    return MulQuantized(
        op.lhs_zero_point.value.data,
        op.rhs_zero_point.value.data,
        op.multiplier.value.data,
        op.zero_point.value.data,
        op.qmin.value.data,
        op.qmax.value.data,
        shares_lhs=element_count(shape_of(op.lhs)) < element_count(shape_of(op.rhs)),
    )


STEPS: dict[type[Operation], Callable[[Any], ElementwiseOp]] = {
    **{kind: lambda op, name=name: Binary(name) for kind, name in BINARY.items()},
    nn.UnaryOp: lambda op: Unary(op.fn.data),
    nn.CompareOp: lambda op: Compare(cast(Predicate, op.predicate.data)),
    nn.SelectOp: lambda op: Select(),
    nn.CastOp: lambda op: Cast(dtype_of(op.result)),
    qnn.QuantizeOp: quantize,
    qnn.DequantizeOp: lambda op: Dequantize(op.scale.value.data, op.zero_point.value.data),
    qnn.Float8QuantizeOp: lambda op: Float8Quantize(op.scale.value.data, format_of(op.result)),
    qnn.Float8DequantizeOp: lambda op: Float8Dequantize(op.scale.value.data, format_of(op.x)),
    qnn.QAddOp: add,
    qnn.QMulOp: mul,
}


def source(launch: LaunchOp, value: SSAValue) -> tuple[int, Input]:
    """The operand of the launch behind a value of its body, and how it is read."""
    if isinstance(value, BlockArgument):
        shape, pitch = shape_of(value), launch.pitch(value.index)
        return value.index, Input(dtype_of(value), shape, row_strides(shape, pitch))
    transpose = value.owner
    if not isinstance(transpose, nn.TransposeOp) or not isinstance(transpose.x, BlockArgument):
        raise ValueError("an elementwise kernel reads operands or transposes of operands")
    strides = row_strides(shape_of(transpose.x), launch.pitch(transpose.x.index))
    permuted = tuple(strides[p] for p in int_tuple(transpose.permutation))
    return transpose.x.index, Input(dtype_of(value), shape_of(value), permuted)


@lowering(*STEPS)
def elementwise(launch: LaunchOp, op: Operation, isa: Isa) -> Choice:
    chain = [o for o in launch.meaning if not isinstance(o, nn.TransposeOp)]
    inside = {o.results[0] for o in chain}
    places: dict[SSAValue, int] = {}
    operands: list[int] = []
    inputs: list[Input] = []
    for value in (v for o in chain for v in o.operands):
        if value in inside or value in places:
            continue
        index, how = source(launch, value)
        places[value] = len(inputs)
        operands.append(index)
        inputs.append(how)
    steps: list[Step] = []
    for o in chain:
        steps.append(Step(STEPS[type(o)](o), tuple(places[v] for v in o.operands)))
        activation = o.properties.get("activation")
        if isinstance(activation, nn.FnAttr):
            before = len(inputs) + len(steps) - 1
            steps.append(Step(Unary(activation.data), (before,)))
        places[o.results[0]] = len(inputs) + len(steps) - 1
    shape, pitch = shape_of(op.results[0]), launch.pitch(RESULT)
    kernel = ElementwiseKernel(isa, shape, tuple(inputs), tuple(steps), pitch)

    in_vectors = [RESULT] if shape[-1:] > (1,) else []
    return choice_of(kernel, operands, [*operands, *in_vectors])
