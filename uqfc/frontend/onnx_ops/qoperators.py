"""QOperator models: each op becomes dequantize → float op → quantize, with its own parameters."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from xdsl.dialects.builtin import f32, i32

from uqfc.dialects import nn
from uqfc.errors import ModelError
from uqfc.frontend.builder import Builder
from uqfc.frontend.node import Node
from uqfc.frontend.onnx_ops.convolution import convolve
from uqfc.frontend.onnx_ops.matmul import general_multiply, multiply
from uqfc.frontend.onnx_ops.pooling import average_of, pool_window
from uqfc.frontend.onnx_ops.quantization import Scheme, dequantized, quantized, storage_of
from uqfc.frontend.onnx_ops.reductions import softmax_of
from uqfc.frontend.onnx_ops.registry import MICROSOFT, converter
from uqfc.frontend.onnx_ops.windows import as_images, as_tensor
from uqfc.frontend.values import Constant, Value, dims, kind, rank, wrap_axis


def scheme(node: Node, scale: int, zero_point: int, axis: int = 0) -> Scheme:
    """Scale and zero point from inputs; a missing zero point is 0."""
    zeros = node.optional_array(zero_point, "zero point")
    zeros = np.zeros((), np.int32) if zeros is None else zeros
    return Scheme(node.array(scale, "scale"), zeros, axis, 0)


def operand(node: Node, b: Builder, index: int, axis: int = 0) -> Value:
    """Inputs ``index`` … ``index + 2`` (values, scale, zero point) as float32."""
    return dequantized(b, node.input(index), scheme(node, index + 1, index + 2, axis))


def result(node: Node, b: Builder, value: Value, scale: int) -> Value:
    """``value`` quantized with inputs ``scale`` and ``scale + 1``, whose type is the storage."""
    storage = storage_of(kind(node.input(scale + 1))) if node.has(scale + 1) else "u8"
    return quantized(b, value, scheme(node, scale, scale + 1).params(storage, dims(value)))


@converter("QLinearConv", moves=True)
def qlinear_conv(node: Node, b: Builder) -> Value:
    x, weight = operand(node, b, 0), operand(node, b, 3)
    bias = integer_bias(node, 8, node.array(1, "x_scale"), node.array(4, "w_scale"))
    return result(node, b, convolve(node, b, x, weight, bias), 6)


def integer_bias(
    node: Node,
    index: int,
    x_scale: np.ndarray[tuple[int, ...], np.dtype[np.float32]],
    w_scale: np.ndarray[tuple[int, ...], np.dtype[np.float32]],
) -> Constant | None:
    """An int32 bias in units of the product of the scales, as float32."""
    if not node.has(index):
        return None
    bias = node.array(index, "bias")
    if kind(node.input(index)) != i32:
        raise ModelError(f"the bias has elements {kind(node.input(index))}, expected int32")
    scale = x_scale.astype(np.float64).reshape(-1) * w_scale.astype(np.float64).reshape(-1)
    return Constant((bias * scale).astype(np.float32), f32)


@converter("QLinearMatMul", moves=True)
def qlinear_matmul(node: Node, b: Builder) -> Value:
    """Scales per row of A and per column of B."""
    a = operand(node, b, 0, -2)
    return result(node, b, multiply(b, a, operand(node, b, 3, -1)), 6)


@converter("QGemm", domain=MICROSOFT, moves=True)
def qgemm(node: Node, b: Builder) -> Value:
    """Without an output scale the result is float32."""
    weight_axis = 0 if node.flag("transB") else 1
    a, weight = operand(node, b, 0), operand(node, b, 3, weight_axis)
    bias = integer_bias(node, 6, node.array(1, "a_scale"), node.array(4, "b_scale"))
    product = general_multiply(node, b, a, weight, bias)
    return result(node, b, product, 7) if node.has(7) else product


def qlinear_binary(op: type[nn.BinaryOp]) -> Callable[[Node, Builder], Value]:
    def convert(node: Node, b: Builder) -> Value:
        return result(node, b, b.binary(op, operand(node, b, 0), operand(node, b, 3)), 6)

    return convert


converter("QLinearAdd", domain=MICROSOFT, moves=True)(qlinear_binary(nn.AddOp))
converter("QLinearMul", domain=MICROSOFT, moves=True)(qlinear_binary(nn.MulOp))


@converter("QLinearSigmoid", domain=MICROSOFT, moves=True)
def qlinear_sigmoid(node: Node, b: Builder) -> Value:
    return result(node, b, b.unary("sigmoid", operand(node, b, 0)), 3)


@converter("QLinearLeakyRelu", domain=MICROSOFT, moves=True)
def qlinear_leaky_relu(node: Node, b: Builder) -> Value:
    alpha = node.real("alpha", 0.01)
    return result(node, b, b.unary("leaky_relu", operand(node, b, 0), alpha), 3)


@converter("QLinearSoftmax", domain=MICROSOFT, moves=True)
def qlinear_softmax(node: Node, b: Builder) -> Value:
    version = node.integer("opset", 13)
    return result(node, b, softmax_of(node, b, operand(node, b, 0), version), 3)


@converter("QLinearGlobalAveragePool", domain=MICROSOFT, moves=True)
def qlinear_global_average_pool(node: Node, b: Builder) -> Value:
    x = operand(node, b, 0)
    first = 1 if node.flag("channels_last") else 2
    axes = range(first, rank(x) - 1 if first == 1 else rank(x))
    return result(node, b, b.reduce("mean", x, axes), 3)


@converter("QLinearAveragePool", domain=MICROSOFT, moves=True)
def qlinear_average_pool(node: Node, b: Builder) -> Value:
    node.must_be("channels_last", 0, 0)
    x = operand(node, b, 0)
    include = node.flag("count_include_pad")
    pooled = average_of(b, as_images(b, x), pool_window(node, x), include)
    return result(node, b, as_tensor(b, pooled, rank(x) - 2), 3)


@converter("QLinearConcat", domain=MICROSOFT, moves=True)
def qlinear_concat(node: Node, b: Builder) -> Value:
    """Inputs are the output's scale and zero point, then three for every operand."""
    operands = [operand(node, b, i) for i in range(2, len(node.inputs), 3)]
    axis = wrap_axis(node.integer("axis", 0), rank(operands[0]))
    return result(node, b, b.concat(operands, axis), 0)
