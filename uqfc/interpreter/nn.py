"""Meanings of the ``nn`` ops that compute element by element or move elements."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, cast

import numpy as np
from xdsl.dialects.builtin import i1

from uqfc.dialects import nn
from uqfc.dialects.nn.base import FnAttr
from uqfc.dialects.tensors import (
    ELEMENT_DTYPES,
    NARROW,
    Array,
    element_of,
    int_tuple,
    shape_of,
)
from uqfc.elementary import UNARY, evaluate_pow
from uqfc.interpreter.registry import meaning
from uqfc.numerics import F32, NUMPY


def apply_fn(attribute: FnAttr | None, x: F32) -> F32:
    """The function of an ``nn.fn`` attribute; ``x`` itself without one."""
    if attribute is None:
        return x
    function = UNARY[attribute.data.name].f32
    return np.asarray(function(NUMPY, x, *attribute.data.params), np.float32)


@meaning(nn.ConstantOp)
def constant(op: nn.ConstantOp) -> Array:
    return op.array


@meaning(nn.UnaryOp)
def unary(op: nn.UnaryOp, x: F32) -> Array:
    return apply_fn(op.fn, x)


def divide(a: Array, b: Array) -> Array:
    """IEEE division of floats; integers truncate towards zero and x / 0 is 0."""
    if a.dtype.kind == "f":
        return np.asarray(a / b)
    safe = np.where(b == 0, b.dtype.type(1), b)
    quotient: Array = a // safe
    inexact = quotient * safe != a
    towards_zero = quotient + (inexact & ((a < 0) != (safe < 0))).astype(a.dtype)
    return np.asarray(np.where(b == 0, a.dtype.type(0), towards_zero), a.dtype)


def power(a: Array, b: Array) -> Array:
    """float32: ``elementary_special.power``. Integers: modulo the word; ``a**-n`` truncates."""
    if a.dtype.kind == "f":
        return evaluate_pow(a, b)
    positive = np.power(a, np.maximum(b, 0))
    reciprocal = np.where(np.abs(a) == 1, np.where(b & 1, a, 1), 0)
    return np.where(b < 0, reciprocal, positive).astype(a.dtype)


BINARY: dict[type[nn.BinaryOp], Callable[[Array, Array], Array]] = {
    nn.AddOp: operator.add,
    nn.SubOp: operator.sub,
    nn.MulOp: operator.mul,
    nn.DivOp: divide,
    nn.PowOp: power,
    nn.MaximumOp: lambda a, b: np.where(b > a, b, a),
    nn.MinimumOp: lambda a, b: np.where(b < a, b, a),
}

COMPARISONS: dict[str, Callable[[Array, Array], Array]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
}


@meaning(*BINARY)
def binary(op: nn.BinaryOp, a: Array, b: Array) -> Array:
    result = np.asarray(BINARY[type(op)](a, b), a.dtype)
    return apply_fn(op.activation, result) if isinstance(op, nn.FusableBinaryOp) else result


@meaning(nn.CompareOp)
def compare(op: nn.CompareOp, a: Array, b: Array) -> Array:
    return np.asarray(COMPARISONS[op.predicate.data](a, b))


@meaning(nn.SelectOp)
def select(op: nn.SelectOp, condition: Array, then: Array, other: Array) -> Array:
    return np.where(condition, then, other)


# --- movement -----------------------------------------------------------------------------------


@meaning(nn.ReshapeOp)
def reshape(op: nn.ReshapeOp, x: Array) -> Array:
    return x.reshape(shape_of(op.result))


@meaning(nn.TransposeOp)
def transpose(op: nn.TransposeOp, x: Array) -> Array:
    return x.transpose(int_tuple(op.permutation))


@meaning(nn.ConcatOp)
def concat(op: nn.ConcatOp, *inputs: Array) -> Array:
    return np.concatenate(inputs, axis=op.axis.value.data)


@meaning(nn.SliceOp)
def slice_(op: nn.SliceOp, x: Array) -> Array:
    index: list[slice] = []
    geometry = zip(int_tuple(op.starts), int_tuple(op.steps), shape_of(op.result), strict=True)
    for start, step, size in geometry:
        stop = start + step * size
        index.append(slice(start, stop if stop >= 0 else None, step))
    return x[tuple(index)]


@meaning(nn.PadOp)
def pad(op: nn.PadOp, x: Array) -> Array:
    widths = list(zip(int_tuple(op.low), int_tuple(op.high), strict=True))
    if op.mode.data != "constant":
        return np.pad(x, widths, mode=cast(Any, op.mode.data))
    value = cast(Any, op.value).value.data
    return np.pad(x, widths, constant_values=np.asarray(value).astype(x.dtype))


@meaning(nn.BroadcastOp)
def broadcast(op: nn.BroadcastOp, x: Array) -> Array:
    return np.broadcast_to(x, shape_of(op.result))


@meaning(nn.GatherOp)
def gather(op: nn.GatherOp, x: Array, indices: Array) -> Array:
    axis = op.axis.value.data
    size = x.shape[axis]
    wrapped = np.where(indices < 0, indices + size, indices)
    return np.take(x, np.clip(wrapped, 0, size - 1), axis=axis)


@meaning(nn.CastOp)
def cast_(op: nn.CastOp, x: Array) -> Array:
    element = element_of(op.result)
    if element == i1:
        return x != 0
    dtype = ELEMENT_DTYPES[element]
    if dtype.kind == "f" or x.dtype.kind != "f":
        return x.astype(dtype)
    limits = np.iinfo(dtype)
    low, high = NARROW.get(element, (int(limits.min), int(limits.max)))
    exact = np.trunc(np.nan_to_num(x.astype(np.float64), nan=0.0, posinf=np.inf, neginf=-np.inf))
    inside = np.clip(exact, low, high).astype(dtype)
    return np.where(exact >= high, dtype.type(high), inside)
