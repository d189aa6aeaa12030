"""Normalisations. Those that depend only on constants become a multiplication and an addition."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from uqfc.dialects import nn
from uqfc.dialects.tensors import Array
from uqfc.errors import ModelError
from uqfc.frontend.builder import Builder
from uqfc.frontend.node import Node
from uqfc.frontend.onnx_ops.registry import converter
from uqfc.frontend.onnx_ops.windows import as_images, as_tensor
from uqfc.frontend.values import UnsupportedUseError, Value, constant, dims, known, rank, wrap_axis


@converter("BatchNormalization")
def batch_normalization(node: Node, b: Builder) -> Value:
    """``x * a + c`` per channel; ``a`` and ``c`` are computed in float64 where all is constant."""
    node.ignore("momentum", "spatial")
    node.must_be("training_mode", 0, 0)
    x, scale, bias, mean, variance = node.floats_in(0, 1, 2, 3, 4)
    epsilon = node.real("epsilon", 1e-5)
    channels = (dims(x)[1],) if rank(x) > 1 else (1,)
    for value in (scale, bias, mean, variance):
        if dims(value) != channels:
            raise ModelError(f"parameters of shape {list(dims(value))}, expected {list(channels)}")
    arrays = [known(v) for v in (scale, bias, mean, variance)]
    if all(a is not None for a in arrays):
        factor, offset = affine([a for a in arrays if a is not None], epsilon)
        x = b.mul(x, per_channel(b, constant(factor), x))
        return b.add(x, per_channel(b, constant(offset), x))
    deviation = b.unary("sqrt", b.add(variance, constant(epsilon)))
    normal = b.div(b.sub(x, per_channel(b, mean, x)), per_channel(b, deviation, x))
    return b.add(b.mul(normal, per_channel(b, scale, x)), per_channel(b, bias, x))


def affine(parameters: Sequence[Array], epsilon: float) -> tuple[Array, Array]:
    """Factor and offset per channel, float32, from scale, bias, mean and variance."""
    scale, bias, mean, variance = (p.astype(np.float64) for p in parameters)
    if (variance + epsilon <= 0).any():
        raise ModelError("variance + epsilon is not positive")
    factor = scale / np.sqrt(variance + epsilon)
    return factor.astype(np.float32), (bias - mean * factor).astype(np.float32)


def per_channel(b: Builder, value: Value, x: Value) -> Value:
    """[C] as [1, C, 1, …] of the rank of ``x``."""
    if rank(x) < 2:
        return value
    return b.reshape(value, (1, *dims(value), *[1] * (rank(x) - 2)))


def normalized(b: Builder, x: Value, axes: Sequence[int], epsilon: float) -> Value:
    """``d / sqrt(mean(d * d) + epsilon)`` with ``d = x - mean(x)`` over the axes."""
    centred = b.sub(x, b.reduce("mean", x, axes))
    variance = b.reduce("mean", b.mul(centred, centred), axes)
    return b.div(centred, b.unary("sqrt", b.add(variance, constant(epsilon))))


@converter("InstanceNormalization")
def instance_normalization(node: Node, b: Builder) -> Value:
    x, scale, bias = node.floats_in(0, 1, 2)
    normal = normalized(b, x, range(2, rank(x)), node.real("epsilon", 1e-5))
    return b.add(b.mul(normal, per_channel(b, scale, x)), per_channel(b, bias, x))


@converter("GroupNormalization")
def group_normalization(node: Node, b: Builder) -> Value:
    """Parameters are per channel from opset 21 on, per group before."""
    node.ignore("stash_type")
    x, scale, bias = node.floats_in(0, 1, 2)
    groups = node.integer("num_groups", 1)
    if rank(x) < 2:
        raise ModelError(f"takes rank 2 or more, got {list(dims(x))}")
    n, c, *rest = dims(x)
    if groups < 1 or c % groups:
        raise ModelError(f"{c} channels do not make {groups} groups")
    grouped = b.reshape(x, (n, groups, c // groups * prod(rest)))
    normal = normalized(b, grouped, [2], node.real("epsilon", 1e-5))
    if node.version < 21:
        view = (1, groups, 1)
        scaled = b.add(b.mul(normal, b.reshape(scale, view)), b.reshape(bias, view))
        return b.reshape(scaled, dims(x))
    normal = b.reshape(normal, dims(x))
    return b.add(b.mul(normal, per_channel(b, scale, x)), per_channel(b, bias, x))


@converter("LayerNormalization")
def layer_normalization(node: Node, b: Builder) -> list[Value]:
    """One op where only the first output is used; else its parts, which are outputs too."""
    node.ignore("stash_type")
    x, scale = node.floats_in(0, 1)
    bias = node.float_in(2) if node.has(2) else constant(0.0)
    epsilon = node.real("epsilon", 1e-5)
    axis = wrap_axis(node.integer("axis", -1), rank(x))
    tail = dims(x)[axis:]
    if not any(node.used[1:]):
        scale, bias = (b.broadcast(fitted(b, v, tail), tail) for v in (scale, bias))
        return [b.emit(nn.LayerNormOp(b.ssa(x), b.ssa(scale), b.ssa(bias), epsilon))]
    axes = range(axis, rank(x))
    mean = b.reduce("mean", x, axes)
    centred = b.sub(x, mean)
    variance = b.reduce("mean", b.mul(centred, centred), axes)
    inverse = b.unary("reciprocal", b.unary("sqrt", b.add(variance, constant(epsilon))))
    result = b.add(b.mul(b.mul(centred, inverse), scale), bias)
    return [result, mean, inverse]


def fitted(b: Builder, value: Value, tail: Sequence[int]) -> Value:
    """A parameter without leading ones that exceed the rank of ``tail``."""
    surplus = rank(value) - len(tail)
    if surplus <= 0:
        return value
    if prod(dims(value)[:surplus]) != 1:
        raise UnsupportedUseError(
            f"parameters of shape {list(dims(value))} for axes of {list(tail)}"
        )
    return b.reshape(value, dims(value)[surplus:])


@converter("LRN")
def local_response_normalization(node: Node, b: Builder) -> Value:
    x = node.float_in(0)
    alpha, beta = node.real("alpha", 1e-4), node.real("beta", 0.75)
    op = nn.LrnOp(
        b.ssa(as_images(b, x)), node.integer("size", 0), alpha, beta, node.real("bias", 1.0)
    )
    return as_tensor(b, b.emit(op), rank(x) - 2)


@converter("LpNormalization")
def lp_normalization(node: Node, b: Builder) -> Value:
    x = node.float_in(0)
    axis = wrap_axis(node.integer("axis", -1), rank(x))
    order = node.integer("p", 2)
    if order not in (1, 2):
        raise UnsupportedUseError(f"attribute 'p' is {order}, supported: 1, 2")
    if order == 1:
        norm = b.reduce("sum", b.unary("abs", x), [axis])
    else:
        norm = b.unary("sqrt", b.reduce("sum", b.mul(x, x), [axis]))
    safe = b.select(b.compare("eq", norm, constant(0.0)), constant(1.0), norm)
    return b.div(x, safe)
