"""Meanings of the ``nn`` pools, reductions and normalisations."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce as fold
from typing import Any

import numpy as np

from uqfc.dialects import nn
from uqfc.dialects.tensors import Array, int_tuple, shape_of
from uqfc.elementary import UNARY
from uqfc.interpreter.nn import BINARY, divide
from uqfc.interpreter.products import Window, conv2d_patches
from uqfc.interpreter.registry import meaning
from uqfc.numerics import F32, NUMPY, strided_sum


def lowest(dtype: np.dtype[Any]) -> float | int:
    """The least value of a dtype."""
    if dtype.kind == "f":
        return float("-inf")
    return 0 if dtype.kind == "b" else int(np.iinfo(dtype).min)


def pool_taps(op: nn.Pool2dOp, x: Array, fill: float | int) -> list[Array]:
    """The window's elements [N, H', W', C], tap by tap in row-major order."""
    window = Window(int_tuple(op.strides), int_tuple(op.padding), int_tuple(op.dilations))
    height, width = int_tuple(op.kernel)
    patches = conv2d_patches(x, (height, width), window, fill)
    return [patches[..., row, column, :] for row in range(height) for column in range(width)]


@meaning(nn.MaxPool2dOp)
def max_pool2d(op: nn.MaxPool2dOp, x: Array) -> Array:
    least = lowest(x.dtype)
    result = np.full(shape_of(op.result), least, x.dtype)
    for tap in pool_taps(op, x, least):
        result = np.where(tap > result, tap, result)
    return result


@meaning(nn.AvgPool2dOp)
def avg_pool2d(op: nn.AvgPool2dOp, x: F32) -> Array:
    total = np.zeros(shape_of(op.result), np.float32)
    for tap in pool_taps(op, x, 0.0):
        total = total + tap
    if op.count_include_pad.value.data:
        height, width = int_tuple(op.kernel)
        return total / np.float32(height * width)
    inside = pool_taps(op, np.ones((1, *x.shape[1:3], 1), np.float32), 0.0)
    return total / fold(np.add, inside)


# --- reductions ---------------------------------------------------------------------------------


def flatten_axes(x: Array, axes: tuple[int, ...]) -> Array:
    """``axes`` moved last and flattened row-major; the others keep their order."""
    kept = [i for i in range(x.ndim) if i not in axes]
    shape = [x.shape[i] for i in kept]
    return x.transpose(*kept, *axes).reshape(*shape, -1)


def sequential(step: Callable[[Array, Array], Array], flat: Array) -> Array:
    """Fold the last axis from its first element."""
    result = flat[..., 0]
    for i in range(1, flat.shape[-1]):
        result = step(result, flat[..., i])
    return result


def sum_last(flat: Array) -> Array:
    if flat.dtype == np.float32:
        return strided_sum(flat)
    return flat.sum(axis=-1, dtype=flat.dtype)


def mean_last(flat: Array) -> Array:
    return divide(sum_last(flat), np.asarray(flat.shape[-1], flat.dtype))


REDUCERS: dict[str, Callable[[Array], Array]] = {
    "sum": sum_last,
    "mean": mean_last,
    "max": lambda flat: sequential(BINARY[nn.MaximumOp], flat),
    "min": lambda flat: sequential(BINARY[nn.MinimumOp], flat),
    "prod": lambda flat: sequential(BINARY[nn.MulOp], flat),
}


@meaning(nn.ReduceOp)
def reduce_(op: nn.ReduceOp, x: Array) -> Array:
    reduced = REDUCERS[op.kind.data](flatten_axes(x, int_tuple(op.axes)))
    return np.asarray(reduced, x.dtype).reshape(shape_of(op.result))


# --- normalisations -----------------------------------------------------------------------------


@meaning(nn.SoftmaxOp)
def softmax(op: nn.SoftmaxOp, x: F32) -> Array:
    axis = op.axis.value.data
    last = np.moveaxis(x, axis, -1)
    e = UNARY["exp"].f32(NUMPY, last - last.max(axis=-1, keepdims=True))
    return np.moveaxis(e / strided_sum(e)[..., None], -1, axis)


@meaning(nn.LayerNormOp)
def layer_norm(op: nn.LayerNormOp, x: F32, scale: F32, bias: F32) -> Array:
    rank = scale.ndim
    flat = x.reshape(*x.shape[: x.ndim - rank], -1)
    d = flat - mean_last(flat)[..., None]
    variance = mean_last(d * d)[..., None]
    normal = d / np.sqrt(variance + np.float32(op.epsilon.value.data))
    return (normal * scale.reshape(-1) + bias.reshape(-1)).reshape(x.shape)


@meaning(nn.LrnOp)
def lrn(op: nn.LrnOp, x: F32) -> Array:
    size, channels = op.size.value.data, x.shape[-1]
    before = (size - 1) // 2
    squares = np.pad(x * x, [(0, 0)] * (x.ndim - 1) + [(before, size - 1 - before)])
    total = np.zeros_like(x)
    for i in range(size):
        total = total + squares[..., i : i + channels]
    alpha = np.float32(op.alpha.value.data) / np.float32(size)
    base = np.float32(op.bias.value.data) + alpha * total
    return x / BINARY[nn.PowOp](base, np.asarray(op.beta.value.data, np.float32))


@meaning(nn.InterpolateOp)
def interpolate(op: nn.InterpolateOp, x: Array, indices: Array, weights: F32) -> Array:
    axis = op.axis.value.data
    shape = [1] * x.ndim
    shape[axis] = -1
    source = x.astype(np.float32)
    terms = [
        np.take(source, indices[:, t], axis=axis) * weights[:, t].reshape(shape)
        for t in range(indices.shape[1])
    ]
    return fold(np.add, terms)
