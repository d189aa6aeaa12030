"""Casts, tables, additions, products and pooling of quantized values."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from uqfc.dialects import qnn
from uqfc.dialects.tensors import int_tuple, shape_of
from uqfc.interpreter import Window, conv2d_patches
from uqfc.qat.integer.arithmetic import centred, dequantize, quantize, unsigned
from uqfc.qat.integer.products import LARGEST_BYTE, padded, product_dtype, windows
from uqfc.qat.integer.registry import Step, aligned, constant_of, makes, to_tensor


@makes(qnn.QuantizeOp)
def quantize_step(op: qnn.QuantizeOp, device: torch.device) -> Step:
    del device
    scale, zero_point = op.scale.value.data, op.zero_point.value.data
    qmin, qmax = op.qmin.value.data, op.qmax.value.data
    return Step(lambda x: quantize(x, scale, zero_point, qmin, qmax), (op.x,))


@makes(qnn.DequantizeOp)
def dequantize_step(op: qnn.DequantizeOp, device: torch.device) -> Step:
    del device
    scale, zero_point = op.scale.value.data, op.zero_point.value.data
    return Step(lambda q: dequantize(q, scale, zero_point), (op.x,))


@makes(qnn.LookupOp)
def lookup(op: qnn.LookupOp, device: torch.device) -> Step | None:
    entries = constant_of(op.table)
    if entries is None:
        return None
    table = to_tensor(entries, device)
    return Step(lambda x: table[x.to(torch.int64)], (op.x,))


@makes(qnn.QAddOp)
def add(op: qnn.QAddOp, device: torch.device) -> Step:
    """``numerics.add_quantized``."""
    del device
    left_zero, right_zero = op.lhs_zero_point.value.data, op.rhs_zero_point.value.data
    left_factor, right_factor = op.lhs_multiplier.value.data, op.rhs_multiplier.value.data

    def run(lhs: Tensor, rhs: Tensor) -> Tensor:
        a, b = aligned(lhs, rhs)
        v = centred(a, left_zero) * left_factor + centred(b, right_zero) * right_factor
        return finished(op, v)

    return Step(run, (op.lhs, op.rhs))


@makes(qnn.QMulOp)
def mul(op: qnn.QMulOp, device: torch.device) -> Step:
    """``numerics.mul_quantized``; the product of two bytes is exact in float32."""
    del device
    left_zero, right_zero = op.lhs_zero_point.value.data, op.rhs_zero_point.value.data
    factor = op.multiplier.value.data

    def run(lhs: Tensor, rhs: Tensor) -> Tensor:
        a, b = aligned(lhs, rhs)
        return finished(op, centred(a, left_zero) * centred(b, right_zero) * factor)

    return Step(run, (op.lhs, op.rhs))


def finished(op: qnn.QBinaryOp | qnn.QAvgPool2dOp, v: Tensor) -> Tensor:
    return unsigned(v, op.zero_point.value.data, op.qmin.value.data, op.qmax.value.data)


@makes(qnn.QAvgPool2dOp)
def avg_pool2d(op: qnn.QAvgPool2dOp, device: torch.device) -> Step | None:
    """Padding with the zero point adds nothing to the centred sum."""
    factors = constant_of(op.multipliers)
    if factors is None:
        return None
    kernel, zero = int_tuple(op.kernel), op.x_zero_point.value.data
    strides, padding, dilations = (
        int_tuple(op.strides),
        int_tuple(op.padding),
        int_tuple(op.dilations),
    )
    size = kernel[0] * kernel[1]
    kind = product_dtype(size * LARGEST_BYTE, LARGEST_BYTE)
    if factors.size > 1:
        ones = np.ones((1, *shape_of(op.x)[1:3], 1), np.int32)
        window = Window(strides, padding, dilations)
        count = conv2d_patches(ones, kernel, window).sum(axis=(3, 4))
        factors = factors[np.maximum(count, 1) - 1]
    multiplier = to_tensor(factors, device)

    def run(x: Tensor) -> Tensor:
        images = padded(x.flatten(0, 1).to(kind), padding, float(zero))
        total = windows(images, kernel, strides, dilations).sum((3, 4)) - zero * size
        return finished(op, (total.to(torch.float32) * multiplier).unflatten(0, x.shape[:2]))

    return Step(run, (op.x,))
