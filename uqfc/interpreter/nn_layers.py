"""Meanings of convolution, linear and matrix products: sum + bias, + residual, then activation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from uqfc.dialects import nn
from uqfc.dialects.tensors import int_tuple
from uqfc.interpreter.nn import apply_fn
from uqfc.interpreter.products import (
    MatrixProduct,
    Window,
    blas_product,
    float_conv2d,
    float_matmul,
    strided_product,
)
from uqfc.interpreter.registry import contextual_meaning
from uqfc.numerics import F32

if TYPE_CHECKING:
    from uqfc.interpreter.engine import Interpreter


def product_of(interpreter: Interpreter) -> MatrixProduct:
    return blas_product if interpreter.fast_float else strided_product


def conv_window(op: nn.Conv2dOp) -> Window:
    return Window(
        int_tuple(op.strides),
        int_tuple(op.padding),
        int_tuple(op.dilations),
        op.groups.value.data,
    )


def epilogue(op: nn.Layer, total: F32, extra: tuple[F32, ...]) -> F32:
    """``extra`` holds the bias and the residual, as far as the op has them."""
    for addend in extra:
        total = total + addend
    return apply_fn(op.activation, total)


@contextual_meaning(nn.Conv2dOp)
def conv2d(interpreter: Interpreter, op: nn.Conv2dOp, x: F32, weight: F32, *extra: F32) -> F32:
    total = float_conv2d(x, weight, conv_window(op), product_of(interpreter))
    return epilogue(op, total, extra)


@contextual_meaning(nn.LinearOp)
def linear(interpreter: Interpreter, op: nn.LinearOp, x: F32, weight: F32, *extra: F32) -> F32:
    flat = product_of(interpreter)(x.reshape(-1, x.shape[-1]), weight.T)
    return epilogue(op, flat.reshape(*x.shape[:-1], weight.shape[0]), extra)


@contextual_meaning(nn.MatmulOp)
def matmul(interpreter: Interpreter, op: nn.MatmulOp, lhs: F32, rhs: F32) -> F32:
    return float_matmul(lhs, rhs, product_of(interpreter))
