"""Quantize points that kernels have no integers for (per channel, blocked): float32 emulation."""

from __future__ import annotations

import numpy as np
from xdsl.ir import Operation, SSAValue

from uqfc.dialects import nn
from uqfc.dialects.quant import QuantParams
from uqfc.dialects.tensors import Array, shape_of


def emulated(x: SSAValue, params: QuantParams) -> list[Operation]:
    """``dcast(qcast(x))`` in float ops: ``clamp(round(x / s), qmin - zp, qmax - zp) * s``.

    Equal to the definition for every value but NaN, which it keeps.
    """
    scale, zero = params.broadcast(shape_of(x))
    bounds = [(limit - zero).astype(np.float32) for limit in (params.qmin, params.qmax)]
    scale_op, low, high = (nn.ConstantOp(as_tensor(v)) for v in (scale, *bounds))
    ratio = nn.DivOp(x, scale_op)
    rounded = nn.UnaryOp(ratio, nn.fn("round"))
    above = nn.MaximumOp(rounded, low)
    below = nn.MinimumOp(above, high)
    return [scale_op, low, high, ratio, rounded, above, below, nn.MulOp(below, scale_op)]


def as_tensor(value: Array) -> Array:
    return np.ascontiguousarray(value, np.float32).reshape(value.shape)
