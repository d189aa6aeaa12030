"""MatMulInteger and ConvInteger: exact int32 sums, expressed with the integer ops directly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from xdsl.dialects.builtin import i32

from uqfc.dialects.qnn import Epilogue, QConv2dOp, QLinearOp, QMatmulOp
from uqfc.dialects.tensors import Array, i8, ui8
from uqfc.errors import ModelError
from uqfc.frontend.builder import Builder
from uqfc.frontend.node import Node, as_float
from uqfc.frontend.onnx_ops.convolution import conv_window
from uqfc.frontend.onnx_ops.registry import converter
from uqfc.frontend.onnx_ops.windows import as_images, as_tensor
from uqfc.frontend.values import (
    Constant,
    UnsupportedUseError,
    Value,
    constant,
    dims,
    kind,
    known,
    rank,
)


@dataclass(frozen=True)
class Activations:
    """A ui8 tensor and its zero point: a number, or an i32 scalar known at run time."""

    value: Value
    zero_point: int
    dynamic: Value | None


def activations(node: Node, b: Builder, index: int, zero_point: int) -> Activations:
    """Input ``index`` as ui8; int8 is moved up by 128 together with its zero point."""
    x = node.input(index)
    signed = kind(x) == i8
    if kind(x) not in (i8, ui8):
        raise ModelError(f"input {index} has elements {kind(x)}, expected int8 or uint8")
    shift = constant(np.asarray(128, np.int32))
    if signed:
        x = b.cast(b.add(b.cast(x, i32), shift), ui8)
    offset = 128 if signed else 0
    zeros = node.optional(zero_point)
    if zeros is None:
        return Activations(x, offset, None)
    if np.prod(dims(zeros)) != 1:
        raise UnsupportedUseError("a zero point per row")
    array = known(zeros)
    if array is not None:
        return Activations(x, int(as_float(array)) + offset, None)
    scalar = b.cast(b.reshape(zeros, ()), i32)
    return Activations(x, 0, b.add(scalar, shift) if signed else scalar)


def channel_zero_points(node: Node, index: int, channels: int) -> Array:
    """The weight's zero points, int32, one per output channel."""
    zeros = node.optional_array(index, "weight zero point")
    zeros = np.zeros(1, np.int32) if zeros is None else zeros.reshape(-1)
    if zeros.size not in (1, channels):
        raise ModelError(f"{zeros.size} zero points for {channels} channels")
    return np.broadcast_to(zeros.astype(np.int32), (channels,))


def integer_operands(b: Builder, x: Activations, weight: Constant, zeros: Array) -> list[Value]:
    """x, weight, weight zero points, addend, multiplier of an integer layer with i32 result."""
    centred = weight.array.astype(np.int64).reshape(zeros.size, -1) - zeros[:, None]
    addend = (-x.zero_point * centred.sum(axis=1)).astype(np.int32)
    one = np.ones(zeros.size, np.float32)
    return [x.value, weight, constant(zeros), constant(addend), constant(one)]


@converter("MatMulInteger")
def matmul_integer(node: Node, b: Builder) -> Value:
    """A constant right side makes an integer linear layer; a dynamic zero point is subtracted."""
    x, y = activations(node, b, 0, 2), node.input(1)
    if min(rank(x.value), rank(y)) < 2:
        raise UnsupportedUseError("a side of rank 1")
    if not isinstance(y, Constant) or rank(y) != 2:
        return dynamic_product(node, b, x)
    weight = b.transpose(y, (1, 0))
    if not isinstance(weight, Constant) or weight.element not in (i8, ui8):
        raise ModelError(f"B has elements {kind(y)}, expected int8 or uint8")
    zeros = channel_zero_points(node, 3, dims(weight)[0])
    operands = [b.ssa(v) for v in integer_operands(b, x, weight, zeros)]
    op = QLinearOp(operands, None, x_zero_point=x.zero_point, epilogue=Epilogue(), element=i32)
    total = b.emit(op)
    if x.dynamic is None:
        return total
    sums = (weight.array.astype(np.int64) - zeros[:, None]).sum(axis=1).astype(np.int32)
    return b.sub(total, b.mul(x.dynamic, constant(sums)))


def dynamic_product(node: Node, b: Builder, x: Activations) -> Value:
    """Both sides are known only at run time."""
    y = activations(node, b, 1, 3)
    if x.dynamic is not None or y.dynamic is not None:
        raise UnsupportedUseError("zero points must be constants where both sides are dynamic")
    op = QMatmulOp(b.ssa(x.value), b.ssa(y.value), x.zero_point, y.zero_point)
    return b.emit(op)


@converter("ConvInteger")
def conv_integer(node: Node, b: Builder) -> Value:
    """The padding is the zero point of x.

    With one that only the run knows, ``sum((x - z) * w)`` over what is inside the image is
    ``sum(x * w) - z * sum(1 * w)`` with a padding of 0.
    """
    x, weight = activations(node, b, 0, 2), node.input(1)
    if not isinstance(weight, Constant) or weight.element not in (i8, ui8):
        raise UnsupportedUseError("the weight must be a constant of int8 or uint8")
    window = conv_window(node, x.value, weight)
    groups = node.integer("group", 1)
    kernels = as_images(b, weight)
    if not isinstance(kernels, Constant):
        raise ModelError("the weight is not a tensor of integers")
    zeros = channel_zero_points(node, 3, dims(weight)[0])

    def total(images: Value, zero_point: int) -> Value:
        activations = Activations(images, zero_point, None)
        op = QConv2dOp(
            [b.ssa(v) for v in integer_operands(b, activations, kernels, zeros)],
            None,
            strides=window.strides,
            padding=window.padding,
            dilations=window.dilations,
            groups=groups,
            x_zero_point=zero_point,
            epilogue=Epilogue(),
            element=i32,
        )
        return b.emit(op)

    images = as_images(b, x.value)
    result = total(images, x.zero_point)
    if x.dynamic is not None:
        ones = constant(np.ones((1, *dims(images)[1:]), np.uint8))
        result = b.sub(result, b.mul(x.dynamic, total(ones, 0)))
    return as_tensor(b, result, rank(x.value) - 2)
