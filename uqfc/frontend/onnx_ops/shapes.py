"""Constants, and ops whose result depends only on shapes and constants."""

from __future__ import annotations

from math import ceil

import numpy as np
from xdsl.ir import Attribute

from uqfc.dialects.qnn import FORMAT_OF
from uqfc.dialects.tensors import NARROW, Array, numpy_dtype
from uqfc.errors import ModelError
from uqfc.frontend.builder import Builder
from uqfc.frontend.node import Node, as_float
from uqfc.frontend.onnx_ops.registry import converter
from uqfc.frontend.tensors import element_of_onnx, read_tensor
from uqfc.frontend.values import (
    Constant,
    UnsupportedUseError,
    Value,
    check_folded,
    constant,
    dims,
    kind,
    rank,
)


@converter("Constant")
def constant_op(node: Node, b: Builder) -> Value:
    tensor = node.tensor("value")
    if tensor is not None:
        return read_tensor(tensor, "attribute 'value'")
    floats, numbers = node.floats("value_floats"), node.ints("value_ints")
    if floats is not None:
        return constant(np.asarray(floats, np.float32))
    if numbers is not None:
        return constant(np.asarray(numbers, np.int64))
    if node.given("value_float"):
        return constant(node.real("value_float", 0.0))
    return constant(np.asarray(node.integer("value_int", 0), np.int64))


@converter("Shape", moves=True)
def shape_op(node: Node, b: Builder) -> Value:
    shape = dims(node.input(0))
    start, end = node.integer("start", 0), node.integer("end", len(shape))
    return constant(np.asarray(shape, np.int64)[start:end])


@converter("Size", moves=True)
def size_op(node: Node, b: Builder) -> Value:
    return constant(np.asarray(np.prod(dims(node.input(0)), dtype=np.int64)))


@converter("ConstantOfShape")
def constant_of_shape(node: Node, b: Builder) -> Value:
    shape = tuple(node.int_list(0, "input"))
    if min(shape, default=0) < 0:
        raise ModelError(f"shape {list(shape)} has a negative dimension")
    tensor = node.tensor("value")
    fill = constant(0.0) if tensor is None else read_tensor(tensor, "attribute 'value'")
    check_folded(shape, fill.element)
    return Constant(np.broadcast_to(fill.array.reshape(-1)[:1].reshape(()), shape), fill.element)


@converter("Range")
def range_op(node: Node, b: Builder) -> Value:
    start, limit, delta = (node.array(i, n) for i, n in enumerate(("start", "limit", "delta")))
    step = as_float(delta)
    if step == 0:
        raise ModelError("delta is 0")
    count = max(ceil((as_float(limit) - as_float(start)) / step), 0)
    element = kind(node.input(0))
    check_folded((count,), element)
    values: Array = start.reshape(()) + np.arange(count) * delta.reshape(())
    return Constant(values.astype(numpy_dtype(element)), element)


@converter("EyeLike")
def eye_like(node: Node, b: Builder) -> Value:
    x = node.input(0)
    if rank(x) != 2:
        raise ModelError(f"takes rank 2, got {list(dims(x))}")
    element = element_of_onnx(node.integer("dtype", 0)) if node.given("dtype") else kind(x)
    eye = np.eye(dims(x)[0], dims(x)[1], k=node.integer("k", 0), dtype=numpy_dtype(element))
    return Constant(eye, element)


@converter("Cast")
def cast(node: Node, b: Builder) -> Value:
    return converted(node, b, element_of_onnx(node.integer("to", 0)))


@converter("CastLike")
def cast_like(node: Node, b: Builder) -> Value:
    return converted(node, b, kind(node.input(1)))


def converted(node: Node, b: Builder, element: Attribute) -> Value:
    node.ignore("saturate", "round_mode")
    if not FORMAT_OF.keys().isdisjoint((element, kind(node.input(0)))):
        raise UnsupportedUseError("casts of 8-bit floats are not supported")
    if element in NARROW:
        raise UnsupportedUseError("casts to elements below 8 bits are not supported")
    return b.cast(node.input(0), element)


@converter("Trilu")
def trilu(node: Node, b: Builder) -> Value:
    """The upper or lower triangle of the last two axes; the rest becomes 0."""
    x = node.input(0)
    diagonal = int(as_float(node.array(1, "k"))) if node.has(1) else 0
    upper = node.flag("upper", True)
    if rank(x) < 2:
        raise ModelError(f"takes rank 2 or more, got {list(dims(x))}")
    ones = np.ones(dims(x)[-2:], np.bool_)
    mask = np.triu(ones, diagonal) if upper else np.tril(ones, diagonal)
    return b.select(constant(mask), x, b.zero_like(x))


@converter("OneHot")
def one_hot(node: Node, b: Builder) -> Value:
    """``values[1]`` where the position along the new axis equals the index, else ``values[0]``."""
    indices, depth = node.input(0), int(as_float(node.array(1, "depth")))
    values = node.input(2)
    if dims(values) != (2,):
        raise ModelError(f"values of shape {list(dims(values))}, expected [2]")
    axis = node.integer("axis", -1)
    axis = axis + rank(indices) + 1 if axis < 0 else axis
    if not 0 <= axis <= rank(indices) or depth < 1:
        raise ModelError(f"axis {axis} or depth {depth} is not valid")
    check_folded((depth,), kind(indices))
    element = kind(indices)
    wrapped = b.select(
        b.compare("lt", indices, b.zero_like(indices)),
        b.add(indices, Constant(np.asarray(depth).astype(numpy_dtype(element)), element)),
        indices,
    )
    shape = list(dims(indices))
    shape.insert(axis, 1)
    view = [1] * len(shape)
    view[axis] = depth
    positions = Constant(np.arange(depth).reshape(view).astype(numpy_dtype(element)), element)
    off, on = (b.reshape(b.slice(values, [i], [1], [1]), []) for i in range(2))
    return b.select(b.compare("eq", b.reshape(wrapped, shape), positions), on, off)
