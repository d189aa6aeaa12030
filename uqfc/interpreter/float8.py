"""Meanings of layers and casts of 8-bit floats: codes decoded, then float32 in the fixed order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from uqfc import float8
from uqfc.dialects import qnn
from uqfc.dialects.qnn import format_of
from uqfc.dialects.tensors import Array, int_tuple
from uqfc.interpreter.nn import apply_fn
from uqfc.interpreter.nn_layers import product_of
from uqfc.interpreter.products import Window, float_conv2d
from uqfc.interpreter.registry import contextual_meaning, meaning
from uqfc.numerics import F32

if TYPE_CHECKING:
    from uqfc.interpreter.engine import Interpreter


@meaning(qnn.Float8QuantizeOp)
def quantize(op: qnn.Float8QuantizeOp, x: F32) -> Array:
    return float8.quantize(x, op.scale.value.data, format_of(op.result))


@meaning(qnn.Float8DequantizeOp)
def dequantize(op: qnn.Float8DequantizeOp, x: Array) -> Array:
    return float8.dequantize(x, op.scale.value.data, format_of(op.x))


def epilogue(op: qnn.Float8LayerOp, total: F32, multiplier: F32, extra: tuple[F32, ...]) -> Array:
    """``extra`` holds the bias and the residual, as far as the op has them."""
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        v = total * multiplier
        for addend in extra:
            v = v + addend
        v = apply_fn(op.activation, v)
    if op.scale is None:
        return v
    return float8.quantize(v, op.scale.value.data, format_of(op.result))


@contextual_meaning(qnn.Float8Conv2dOp)
def conv2d(
    interpreter: Interpreter,
    op: qnn.Float8Conv2dOp,
    x: Array,
    weight: Array,
    multiplier: F32,
    *extra: F32,
) -> Array:
    window = Window(
        int_tuple(op.strides),
        int_tuple(op.padding),
        int_tuple(op.dilations),
        op.groups.value.data,
    )
    numbers = float8.decode(x, format_of(op.x)), float8.decode(weight, format_of(op.weight))
    total = float_conv2d(*numbers, window, product_of(interpreter))
    return epilogue(op, total, multiplier, extra)


@contextual_meaning(qnn.Float8LinearOp)
def linear(
    interpreter: Interpreter,
    op: qnn.Float8LinearOp,
    x: Array,
    weight: Array,
    multiplier: F32,
    *extra: F32,
) -> Array:
    rows = float8.decode(x.reshape(-1, x.shape[-1]), format_of(op.x))
    columns = float8.decode(weight, format_of(op.weight))
    total = product_of(interpreter)(rows, columns.T)
    return epilogue(op, total.reshape(*x.shape[:-1], len(columns)), multiplier, extra)
