"""Meanings of the ``quant`` casts. Quantized elements are int32: storage values, or codes."""

from __future__ import annotations

import numpy as np

from uqfc import float8, numerics
from uqfc.dialects import quant
from uqfc.dialects.quant import UniformType, uniform_of
from uqfc.dialects.tensors import Array, element_of, numpy_dtype
from uqfc.interpreter.registry import meaning
from uqfc.numerics import F32, I32


@meaning(quant.QcastOp)
def qcast(op: quant.QcastOp, x: F32) -> Array:
    params = uniform_of(op.result)
    scale, zero_point = params.broadcast(x.shape)
    if params.float8 is not None:
        return float8.quantize(x, scale, params.float8).astype(np.int32)
    return numerics.quantize(x, scale, zero_point, params.qmin, params.qmax)


@meaning(quant.DcastOp)
def dcast(op: quant.DcastOp, x: I32) -> Array:
    params = uniform_of(op.x)
    scale, zero_point = params.broadcast(x.shape)
    if params.float8 is not None:
        return float8.dequantize(x, scale, params.float8)
    return numerics.dequantize(x, scale, zero_point)


@meaning(quant.ScastOp)
def scast(op: quant.ScastOp, x: Array) -> Array:
    if isinstance(element_of(op.result), UniformType):
        return x.astype(np.int32)
    return x.astype(numpy_dtype(element_of(op.result)))


@meaning(quant.ObserveOp)
def observe(op: quant.ObserveOp, x: F32) -> Array:
    return x
