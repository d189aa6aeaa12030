"""Meanings of the integer ops: exact sums, then the epilogues of ``numerics``."""

from __future__ import annotations

import numpy as np
from xdsl.dialects.builtin import f32, i32

from uqfc import numerics
from uqfc.dialects import qnn
from uqfc.dialects.tensors import Array, element_of, int_tuple
from uqfc.interpreter.products import Window, conv2d_patches, integer_conv2d, integer_linear
from uqfc.interpreter.registry import meaning
from uqfc.numerics import F32, I32, NUMPY


@meaning(qnn.QuantizeOp)
def quantize(op: qnn.QuantizeOp, x: F32) -> Array:
    q = numerics.quantize(
        x,
        np.asarray(op.scale.value.data, np.float32),
        np.asarray(op.zero_point.value.data, np.int32),
        op.qmin.value.data,
        op.qmax.value.data,
    )
    return q.astype(np.uint8)


@meaning(qnn.DequantizeOp)
def dequantize(op: qnn.DequantizeOp, x: Array) -> Array:
    scale = np.asarray(op.scale.value.data, np.float32)
    zero_point = np.asarray(op.zero_point.value.data, np.int32)
    return numerics.dequantize(x.astype(np.int32), scale, zero_point)


def centred_weight(weight: Array, zero_point: I32) -> I32:
    """``w - zero_point`` with one zero point per output channel (axis 0)."""
    return weight.astype(np.int32) - zero_point.reshape(-1, *[1] * (weight.ndim - 1))


def epilogue(
    op: qnn.IntegerLayerOp, total: Array, multiplier: F32, residual: Array | None
) -> Array:
    """The result from the int32 sums (addend included); see ``qnn.Epilogue``."""
    acc = total.astype(np.int32)
    if not np.array_equal(acc, total):
        raise OverflowError(f"{op.name} '{op.layer}': a sum exceeds int32")
    if element_of(op.result) == i32:
        return acc
    e = op.epilogue.data
    v = acc.astype(np.float32) * multiplier
    if residual is not None:
        centred = (residual.astype(np.int32) - e.residual_zero_point).astype(np.float32)
        v = v + centred * np.float32(e.residual_multiplier)
    if e.activation is not None:
        v = np.asarray(e.activation(NUMPY, v), np.float32)
    if element_of(op.result) == f32:
        return v
    if e.activation is not None:
        v = v * np.float32(e.reciprocal)
    q = numerics.round_clamped(v, e.qmin - e.zero_point, e.qmax - e.zero_point)
    return (e.zero_point + q).astype(np.uint8)


@meaning(qnn.QConv2dOp)
def conv2d(
    op: qnn.QConv2dOp,
    x: Array,
    weight: Array,
    weight_zero_point: I32,
    addend: I32,
    multiplier: F32,
    residual: Array | None = None,
) -> Array:
    total = integer_conv2d(
        x,
        centred_weight(weight, weight_zero_point),
        int_tuple(op.strides),
        int_tuple(op.padding),
        int_tuple(op.dilations),
        op.groups.value.data,
        op.x_zero_point.value.data,
    )
    return epilogue(op, total + addend, multiplier, residual)


@meaning(qnn.QLinearOp)
def linear(
    op: qnn.QLinearOp,
    x: Array,
    weight: Array,
    weight_zero_point: I32,
    addend: I32,
    multiplier: F32,
    residual: Array | None = None,
) -> Array:
    total = integer_linear(x, centred_weight(weight, weight_zero_point))
    return epilogue(op, total + addend, multiplier, residual)


@meaning(qnn.QMatmulOp)
def matmul(op: qnn.QMatmulOp, lhs: Array, rhs: Array) -> Array:
    left = lhs.astype(np.int64) - op.lhs_zero_point.value.data
    right = rhs.astype(np.int64) - op.rhs_zero_point.value.data
    return np.matmul(left.astype(np.float64), right.astype(np.float64)).astype(np.int32)


def _bounds(op: qnn.QBinaryOp) -> tuple[int, int, int]:
    zero_point = op.zero_point.value.data
    return op.qmin.value.data - zero_point, op.qmax.value.data - zero_point, zero_point


@meaning(qnn.QAddOp)
def add(op: qnn.QAddOp, lhs: Array, rhs: Array) -> Array:
    low, high, zero_point = _bounds(op)
    q = numerics.add_quantized(
        lhs.astype(np.int32),
        op.lhs_zero_point.value.data,
        np.asarray(op.lhs_multiplier.value.data, np.float32),
        rhs.astype(np.int32),
        op.rhs_zero_point.value.data,
        np.asarray(op.rhs_multiplier.value.data, np.float32),
        low,
        high,
        zero_point,
    )
    return q.astype(np.uint8)


@meaning(qnn.QMulOp)
def mul(op: qnn.QMulOp, lhs: Array, rhs: Array) -> Array:
    low, high, zero_point = _bounds(op)
    q = numerics.mul_quantized(
        lhs.astype(np.int32),
        op.lhs_zero_point.value.data,
        rhs.astype(np.int32),
        op.rhs_zero_point.value.data,
        np.asarray(op.multiplier.value.data, np.float32),
        low,
        high,
        zero_point,
    )
    return q.astype(np.uint8)


@meaning(qnn.QAvgPool2dOp)
def avg_pool2d(op: qnn.QAvgPool2dOp, x: Array, multipliers: F32) -> Array:
    window = Window(int_tuple(op.strides), int_tuple(op.padding), int_tuple(op.dilations))
    kernel = int_tuple(op.kernel)
    zero = op.x_zero_point.value.data
    taps = conv2d_patches(x.astype(np.int32) - zero, kernel, window)
    total = taps.sum(axis=(3, 4), dtype=np.int64).astype(np.int32)
    inside = conv2d_patches(np.ones((1, *x.shape[1:3], 1), np.int32), kernel, window)
    count = inside.sum(axis=(3, 4))
    chosen = multipliers[0] if multipliers.size == 1 else multipliers[np.maximum(count, 1) - 1]
    return numerics.requantize(
        total, chosen, op.zero_point.value.data, op.qmin.value.data, op.qmax.value.data
    ).astype(np.uint8)


@meaning(qnn.LookupOp)
def lookup(op: qnn.LookupOp, x: Array, table: Array) -> Array:
    return table[x]
