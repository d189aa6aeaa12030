"""Gemm and MatMul: ``nn.linear`` where the right side is a constant matrix, else ``nn.matmul``."""

from __future__ import annotations

from xdsl.dialects.builtin import f32
from xdsl.ir import SSAValue

from uqfc.dialects import nn
from uqfc.dialects.tensors import broadcast_shapes
from uqfc.errors import ModelError
from uqfc.frontend.builder import Builder
from uqfc.frontend.node import Node
from uqfc.frontend.onnx_ops.registry import MICROSOFT, converter
from uqfc.frontend.values import Constant, Value, constant, dims, known, rank


@converter("MatMul")
def matmul(node: Node, b: Builder) -> Value:
    return multiply(b, *node.floats_in(0, 1))


def multiply(b: Builder, x: Value, y: Value) -> Value:
    """NumPy's ``matmul``: a side of rank 1 is a row or column that is dropped afterwards."""
    if rank(x) == 0 or rank(y) == 0:
        raise ModelError("a side has rank 0")
    if rank(x) == 1:
        product = multiply(b, b.reshape(x, (1, *dims(x))), y)
        shape = dims(product)
        return b.reshape(product, shape[:-1] if rank(y) == 1 else (*shape[:-2], shape[-1]))
    if rank(y) == 1:
        product = multiply(b, x, b.reshape(y, (*dims(y), 1)))
        return b.reshape(product, dims(product)[:-1])
    if dims(x)[-1] != dims(y)[-2]:
        raise ModelError(f"{list(dims(x))} and {list(dims(y))} do not multiply")
    if rank(y) == 2 and not isinstance(y, SSAValue):
        return linear(b, x, b.transpose(y, (1, 0)), None)
    return b.emit(nn.MatmulOp(b.ssa(x), b.ssa(y)))


def linear(b: Builder, x: Value, weight: Value, bias: Value | None) -> Value:
    """``x @ weight.T + bias``; weight [N, K]."""
    return b.emit(nn.LinearOp(b.ssa(x), b.ssa(weight), None if bias is None else b.ssa(bias)))


@converter("Gemm")
def gemm(node: Node, b: Builder) -> Value:
    """``alpha * A @ B + beta * C``; factors other than 1 stay multiplications of their own."""
    x, y = node.floats_in(0, 1)
    c = node.float_in(2) if node.has(2) else None
    return general_multiply(node, b, x, y, c)


def general_multiply(node: Node, b: Builder, x: Value, y: Value, c: Value | None) -> Value:
    """The product that the attributes of a Gemm describe."""
    alpha, beta = node.real("alpha", 1.0), node.real("beta", 1.0)
    if rank(x) != 2 or rank(y) != 2:
        raise ModelError(f"{list(dims(x))} and {list(dims(y))} are not matrices")
    x = b.transpose(x, (1, 0)) if node.flag("transA") else x
    y = y if node.flag("transB") else b.transpose(y, (1, 0))
    if dims(x)[1] != dims(y)[1]:
        raise ModelError(f"inner sizes {dims(x)[1]} and {dims(y)[1]} differ")
    addend = None if c is None or beta == 0.0 else scaled(b, c, beta)
    shape = (dims(x)[0], dims(y)[0])
    if addend is not None and broadcast_shapes(dims(addend), shape) != shape:
        raise ModelError(f"C of shape {list(dims(addend))} does not broadcast to {list(shape)}")
    if isinstance(y, SSAValue):
        product = b.emit(nn.MatmulOp(b.ssa(x), b.ssa(b.transpose(y, (1, 0)))))
        product = scaled(b, product, alpha)
        return product if addend is None else b.add(product, addend)
    bias = bias_of(addend, shape[1]) if alpha == 1.0 else None
    product = scaled(b, linear(b, x, y, bias), alpha)
    return product if addend is None or bias is not None else b.add(product, addend)


def scaled(b: Builder, x: Value, factor: float) -> Value:
    return x if factor == 1.0 else b.mul(x, constant(factor))


def bias_of(addend: Value | None, channels: int) -> Constant | None:
    """A constant that is the same for every row, as [channels]; None for anything else."""
    array = known(addend)
    if array is None or (array.ndim == 2 and array.shape[0] != 1):
        return None
    row = array.reshape(-1)
    spread = row if row.size == channels else row.repeat(channels)
    return Constant(spread, f32)


@converter("FusedMatMul", domain=MICROSOFT)
def fused_matmul(node: Node, b: Builder) -> Value:
    node.must_be("transBatchA", 0, 0)
    node.must_be("transBatchB", 0, 0)
    x, y = node.floats_in(0, 1)
    x = swapped(b, x) if node.flag("transA") else x
    y = swapped(b, y) if node.flag("transB") else y
    return scaled(b, multiply(b, x, y), node.real("alpha", 1.0))


def swapped(b: Builder, x: Value) -> Value:
    """The last two axes exchanged; a vector stays what it is."""
    axes = list(range(rank(x)))
    return b.transpose(x, [*axes[:-2], *axes[-2:][::-1]])
