"""Kernels of movement, pooling, reductions, normalisations and lookup tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from typing import cast

from xdsl.ir import Operation, SSAValue

from uqfc.codegen.isa import Isa
from uqfc.codegen.kernels import movement
from uqfc.codegen.kernels.integer_matmul import IntegerMatmulKernel
from uqfc.codegen.kernels.lookup import LookupKernel
from uqfc.codegen.kernels.movement import PadMode
from uqfc.codegen.kernels.norm import LayerNormKernel, LrnKernel
from uqfc.codegen.kernels.pool import AvgPoolKernel, MaxPoolKernel
from uqfc.codegen.kernels.quantized_pool import GlobalAvgPoolKernel, QuantizedAvgPoolKernel
from uqfc.codegen.kernels.reduce import ReduceKernel, ReduceKind
from uqfc.codegen.kernels.softmax import SoftmaxKernel
from uqfc.codegen.kernels.take import GatherKernel, InterpolateKernel
from uqfc.codegen.kernels.tensor import TensorKernel
from uqfc.codegen.kernels.window import WindowDims
from uqfc.codegen.lowering.elementwise import dtype_of
from uqfc.codegen.lowering.registry import RESULT, Choice, choice_of, lowering, operand_index
from uqfc.dialects import nn, qnn
from uqfc.dialects.qkernel import LaunchOp
from uqfc.dialects.tensors import element_count, int_tuple, shape_of


def tensor_choice(
    kernel: TensorKernel, operands: Sequence[SSAValue], pitched: Iterable[int] = ()
) -> Choice:
    """A kernel whose inputs are these values of the launch's body; ``pitched`` as in ``Choice``."""
    return choice_of(kernel, [operand_index(v) for v in operands], pitched)


def movement_kernel(launch: LaunchOp, op: Operation, isa: Isa) -> TensorKernel:
    dtype, shape = dtype_of(op.operands[0]), shape_of(op.operands[0])
    pitches = tuple(launch.pitch(i) for i in (*map(operand_index, op.operands), RESULT))
    match op:
        case nn.ReshapeOp():
            rows = shape_of(op.result)
            return movement.broadcast(isa, dtype, rows, rows, pitches)
        case nn.TransposeOp():
            return movement.transpose(isa, dtype, shape, int_tuple(op.permutation), pitches)
        case nn.BroadcastOp():
            return movement.broadcast(isa, dtype, shape, shape_of(op.result), pitches)
        case nn.SliceOp():
            starts, steps, sizes = int_tuple(op.starts), int_tuple(op.steps), shape_of(op.result)
            return movement.slice_tensor(isa, dtype, shape, starts, steps, sizes, pitches)
        case nn.ConcatOp():
            shapes, axis = [shape_of(v) for v in op.inputs], op.axis.value.data
            return movement.concat(isa, dtype, shapes, axis, pitches, launch.parts_in_place)
        case nn.PadOp():
            low, high = int_tuple(op.low), int_tuple(op.high)
            mode = cast(PadMode, op.mode.data)
            return movement.pad(isa, dtype, shape, low, high, mode, op.value.value.data)
        case _:
            raise TypeError(f"{op.name} does not move elements")


@lowering(nn.ReshapeOp, nn.TransposeOp, nn.BroadcastOp, nn.SliceOp, nn.ConcatOp, nn.PadOp)
def move(launch: LaunchOp, op: Operation, isa: Isa) -> Choice:
    kernel, places = movement_kernel(launch, op, isa), map(operand_index, op.operands)
    match op:
        case nn.PadOp():
            pitched: list[int] = []
        case nn.ReshapeOp() if shape_of(op.x)[-1:] != shape_of(op.result)[-1:]:
            pitched = [RESULT]
        case _:
            pitched = [*places, RESULT]
    return tensor_choice(kernel, op.operands, pitched)


@lowering(nn.GatherOp)
def gather(launch: LaunchOp, op: nn.GatherOp, isa: Isa) -> Choice:
    index_dtype = dtype_of(op.indices)
    if index_dtype not in ("i32", "i64"):
        raise ValueError("indices are neither i32 nor i64")
    kernel = GatherKernel(
        isa,
        dtype_of(op.x),
        shape_of(op.x),
        op.axis.value.data,
        index_dtype,
        element_count(shape_of(op.indices)),
    )
    return tensor_choice(kernel, op.operands)


@lowering(nn.InterpolateOp)
def interpolate(launch: LaunchOp, op: nn.InterpolateOp, isa: Isa) -> Choice:
    count, taps = shape_of(op.indices)
    kernel = InterpolateKernel(isa, shape_of(op.x), op.axis.value.data, count, taps)
    return tensor_choice(kernel, op.operands)


def window_dims(launch: LaunchOp, op: nn.Pool2dOp) -> WindowDims:
    batch, height, width, channels = shape_of(op.x)
    _, out_height, out_width, _ = shape_of(op.result)
    kernel, strides = int_tuple(op.kernel), int_tuple(op.strides)
    padding, dilations = int_tuple(op.padding), int_tuple(op.dilations)
    return WindowDims(
        batch,
        height,
        width,
        channels,
        out_height,
        out_width,
        (kernel[0], kernel[1]),
        (strides[0], strides[1]),
        (dilations[0], dilations[1]),
        (padding[0], padding[1]),
        launch.pitch(RESULT),
    )


@lowering(nn.MaxPool2dOp)
def max_pool(launch: LaunchOp, op: nn.MaxPool2dOp, isa: Isa) -> Choice:
    kernel = MaxPoolKernel(isa, window_dims(launch, op), dtype_of(op.x))
    return tensor_choice(kernel, [op.x], pitched=[RESULT])


@lowering(nn.AvgPool2dOp)
def avg_pool(launch: LaunchOp, op: nn.AvgPool2dOp, isa: Isa) -> Choice:
    include = op.count_include_pad.value.data
    kernel = AvgPoolKernel(isa, window_dims(launch, op), bool(include))
    return tensor_choice(kernel, [op.x], pitched=[RESULT])


@lowering(qnn.QAvgPool2dOp)
def quantized_avg_pool(launch: LaunchOp, op: qnn.QAvgPool2dOp, isa: Isa) -> Choice:
    dims = window_dims(launch, op)
    kernel = (GlobalAvgPoolKernel if dims.is_global else QuantizedAvgPoolKernel)(
        isa,
        dims,
        element_count(shape_of(op.multipliers)),
        op.x_zero_point.value.data,
        op.zero_point.value.data,
        op.qmin.value.data,
        op.qmax.value.data,
    )
    return tensor_choice(kernel, op.operands, pitched=[] if dims.is_global else [RESULT])


@lowering(nn.ReduceOp)
def reduce(launch: LaunchOp, op: nn.ReduceOp, isa: Isa) -> Choice:
    kind = cast(ReduceKind, op.kind.data)
    kernel = ReduceKernel(isa, dtype_of(op.x), shape_of(op.x), int_tuple(op.axes), kind)
    return tensor_choice(kernel, [op.x])


@lowering(nn.SoftmaxOp)
def softmax(launch: LaunchOp, op: nn.SoftmaxOp, isa: Isa) -> Choice:
    return tensor_choice(SoftmaxKernel(isa, shape_of(op.x), op.axis.value.data), [op.x])


@lowering(nn.LayerNormOp)
def layer_norm(launch: LaunchOp, op: nn.LayerNormOp, isa: Isa) -> Choice:
    rank = len(shape_of(op.scale))
    kernel = LayerNormKernel(isa, shape_of(op.x), rank, op.epsilon.value.data)
    return tensor_choice(kernel, op.operands)


@lowering(nn.LrnOp)
def lrn(launch: LaunchOp, op: nn.LrnOp, isa: Isa) -> Choice:
    alpha, beta, bias = (a.value.data for a in (op.alpha, op.beta, op.bias))
    kernel = LrnKernel(isa, shape_of(op.x), op.size.value.data, alpha, beta, bias)
    return tensor_choice(kernel, [op.x])


@lowering(qnn.LookupOp)
def lookup(launch: LaunchOp, op: qnn.LookupOp, isa: Isa) -> Choice:
    """Rows of less than a vector are looked up faster together, even if they are copied then."""
    shape, x = shape_of(op.x), operand_index(op.x)
    kernel = LookupKernel(isa, element_count(shape))
    if launch.pitches is not None:
        count = shape[-1]
        pitches = launch.pitch(x) or count, launch.pitch(RESULT) or count
        kernel = LookupKernel(isa, count, prod(shape[:-1]), pitches)
    pitched = [x, RESULT] if shape[-1:] >= (kernel.lanes,) else [x]
    return tensor_choice(kernel, op.operands, pitched)


@lowering(qnn.QMatmulOp)
def integer_matmul(launch: LaunchOp, op: qnn.QMatmulOp, isa: Isa) -> Choice:
    zeros = op.lhs_zero_point.value.data, op.rhs_zero_point.value.data
    kernel = IntegerMatmulKernel(isa, shape_of(op.lhs), shape_of(op.rhs), *zeros)
    return tensor_choice(kernel, op.operands)
