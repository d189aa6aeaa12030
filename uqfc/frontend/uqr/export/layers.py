"""Convolution, linear and matrix products; bias, residual and activation as nodes of their own."""

from __future__ import annotations

from uqfc.dialects import nn
from uqfc.dialects.tensors import int_tuple, shape_of
from uqfc.frontend.uqr.export.functions import function_of
from uqfc.frontend.uqr.export.graph import IMAGE, Graph, Layout, identity
from uqfc.frontend.uqr.export.registry import exporter

TRANSPOSED: Layout = (1, 0)


@exporter(nn.Conv2dOp)
def conv2d(g: Graph, op: nn.Conv2dOp) -> None:
    weight = g.weight(op.weight, IMAGE, op)
    inputs = [g.get(op.x, IMAGE), weight]
    if op.bias is not None:
        inputs.append(g.weight(op.bias, (0,), op, "bias"))
    result = g.apply(
        op,
        "Conv",
        inputs,
        kernel_shape=shape_of(op.weight)[1:3],
        strides=int_tuple(op.strides),
        pads=int_tuple(op.padding),
        dilations=int_tuple(op.dilations),
        group=op.groups.value.data,
    )
    finish(g, op, result, IMAGE)


@exporter(nn.LinearOp)
def linear(g: Graph, op: nn.LinearOp) -> None:
    """Gemm of matrices with constant weights, else MatMul and Add."""
    rank = len(shape_of(op.x))
    bias = None if op.bias is None else g.weight(op.bias, (0,), op, "bias")
    x = g.get(op.x)
    if rank == 2 and op.weight in g.known:
        weight = g.weight(op.weight, identity(2), op)
        inputs = [x, weight] if bias is None else [x, weight, bias]
        result = g.apply(op, "Gemm", inputs, transB=1)
    else:
        result = g.apply(op, "MatMul", [x, g.weight(op.weight, TRANSPOSED, op)])
        result = result if bias is None else g.apply(op, "Add", [result, bias])
    finish(g, op, result, identity(rank))


def finish(g: Graph, op: nn.Layer, result: str, layout: Layout) -> None:
    """Residual and activation."""
    if op.residual is not None:
        result = g.apply(op, "Add", [result, g.get(op.residual, layout)])
    if op.activation is not None:
        result = function_of(g, op, result, op.activation.data)
    g.define(op.result, result, layout)


@exporter(nn.MatmulOp)
def matmul(g: Graph, op: nn.MatmulOp) -> None:
    """A constant matrix on the right gets an axis of 1: as it is, it would be read as weights."""
    lhs, rhs, shape = g.get(op.lhs), g.get(op.rhs), shape_of(op.rhs)
    if op.rhs not in g.known or len(shape) > 2:
        g.define(op.result, g.apply(op, "MatMul", [lhs, rhs]))
        return
    batch = g.apply(op, "Reshape", [rhs, g.integers((1, *shape))])
    product = g.apply(op, "MatMul", [lhs, batch])
    g.define(op.result, g.apply(op, "Reshape", [product, g.integers(shape_of(op.result))]))
