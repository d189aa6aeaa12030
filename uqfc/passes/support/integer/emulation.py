"""Quantize points that kernels have no integers for (per channel, blocked): float32 emulation."""

from __future__ import annotations

import numpy as np
from xdsl.dialects.builtin import f32, i32
from xdsl.ir import Attribute, Operation, SSAValue

from uqfc.dialects import nn
from uqfc.dialects.quant import QuantParams
from uqfc.dialects.tensors import Array, element_of, shape_of


def levels(x: SSAValue, params: QuantParams) -> list[Operation]:
    """``clamp(round(x / s), qmin - zp, qmax - zp)`` in float ops; NaN gives 0."""
    scale, zero = params.broadcast(shape_of(x))
    bounds = [(limit - zero).astype(np.float32) for limit in (params.qmin, params.qmax)]
    zeros = np.zeros((), np.float32)
    scale_op, low, high, nothing = (nn.ConstantOp(as_tensor(v)) for v in (scale, *bounds, zeros))
    ratio = nn.DivOp(x, scale_op)
    is_number = nn.CompareOp(ratio, ratio, "eq")
    number = nn.SelectOp(is_number, ratio, nothing)
    rounded = nn.UnaryOp(number, nn.fn("round"))
    above = nn.MaximumOp(rounded, low)
    below = nn.MinimumOp(above, high)
    return [scale_op, low, high, nothing, ratio, is_number, number, rounded, above, below]


def emulated(x: SSAValue, params: QuantParams) -> list[Operation]:
    """``dcast(qcast(x))`` in float ops, to the bit: no zero is negative."""
    ops = levels(x, params)
    scale = nn.ConstantOp(as_tensor(params.broadcast(shape_of(x))[0]))
    product = nn.MulOp(ops[-1], scale)
    nothing = nn.ConstantOp(np.zeros((), np.float32))
    return [*ops, scale, product, nothing, nn.AddOp(product, nothing)]


def emulated_quantize(x: SSAValue, params: QuantParams, storage: Attribute) -> list[Operation]:
    """``qcast(x)`` as integers of the storage type."""
    ops = levels(x, params)
    zero = nn.ConstantOp(as_tensor(params.broadcast(shape_of(x))[1]))
    level = nn.AddOp(ops[-1], zero)
    return [*ops, zero, level, nn.CastOp(level, storage)]


def emulated_dequantize(x: SSAValue, params: QuantParams) -> list[Operation]:
    """``dcast`` of integers of the storage type: the difference is taken in int32."""
    scale, zero = params.broadcast(shape_of(x))
    scale_op, zero_op = nn.ConstantOp(as_tensor(scale)), nn.ConstantOp(zero.astype(np.int32))
    wide: list[Operation] = [] if element_of(x) == i32 else [nn.CastOp(x, i32)]
    centred = nn.SubOp(wide[0] if wide else x, zero_op)
    real = nn.CastOp(centred, f32)
    return [scale_op, zero_op, *wide, centred, real, nn.MulOp(real, scale_op)]


def as_tensor(value: Array) -> Array:
    return np.ascontiguousarray(value, np.float32).reshape(value.shape)
