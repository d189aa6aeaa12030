"""What a name of the ONNX graph stands for during import: a run-time value or a known constant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from xdsl.dialects.builtin import f32
from xdsl.ir import Attribute, SSAValue

from uqfc.dialects.quant import QuantParams, UniformType
from uqfc.dialects.tensors import (
    Array,
    Shape,
    element_of,
    element_type,
    numpy_dtype,
    shape_of,
)
from uqfc.errors import ModelError
from uqfc.numerics import dequantize

MAX_TENSOR_BYTES = 2**31
"""Largest tensor that a model may hold; checked before anything is allocated."""

MAX_FOLDED_BYTES = 2**29
"""Largest constant that the import computes from others."""


class UnsupportedUseError(Exception):
    """A converter cannot express its node; the message says what exactly and what is accepted."""


@dataclass(frozen=True, eq=False)
class Constant:
    """A known tensor. Four-bit elements take a byte each in ``array``."""

    array: Array
    element: Attribute


@dataclass(frozen=True, eq=False)
class Quantized:
    """A known tensor of float32 values given by integers and their quantization.

    ``layer`` is the name of the DequantizeLinear node.
    """

    array: Array
    params: QuantParams
    storage: Attribute
    layer: str

    def dequantized(self) -> Array:
        """The float32 values."""
        scale, zero_point = self.params.broadcast(self.array.shape)
        return dequantize(self.array.astype(np.int32), scale, zero_point)


Value: TypeAlias = SSAValue | Constant | Quantized


def constant(array: Array | list[int] | float | int) -> Constant:
    """A constant whose element type is the array's own; a Python float is float32, an int i64."""
    data: Array = np.asarray(array)
    if isinstance(array, float):
        data = data.astype(np.float32)
    return Constant(data, element_type(data.dtype))


def scalar(value: float, element: Attribute) -> Constant:
    """A rank-0 constant of the given element type."""
    return Constant(np.asarray(value).astype(numpy_dtype(element)), element)


def dims(value: Value) -> Shape:
    if isinstance(value, SSAValue):
        return shape_of(value)
    return tuple(value.array.shape)


def rank(value: Value) -> int:
    return len(dims(value))


def kind(value: Value) -> Attribute:
    """The element type; float32 for a quantized constant."""
    if isinstance(value, SSAValue):
        return element_of(value)
    return f32 if isinstance(value, Quantized) else value.element


def known(value: Value | None) -> Array | None:
    """The value's array if it is a constant of any kind."""
    if isinstance(value, Quantized):
        return value.dequantized()
    return value.array if isinstance(value, Constant) else None


def item_bytes(element: Attribute) -> int:
    """Bytes of one element at run time."""
    if isinstance(element, UniformType):
        return 4 if element.data.storage == "i32" else 1
    return numpy_dtype(element).itemsize


def check_size(shape: Shape, element: Attribute, what: str, limit: int = MAX_TENSOR_BYTES) -> None:
    """ModelError if a tensor of this shape takes more than ``limit`` bytes."""
    total: Any = item_bytes(element)
    for size in shape:
        total *= int(size)
    if total > limit:
        raise ModelError(
            f"{what} of shape {list(shape)} takes {total} bytes; at most {limit} are accepted"
        )


def check_folded(shape: Shape, element: Attribute) -> None:
    """``check_size`` of a constant that the import is about to compute."""
    check_size(shape, element, "the constant result", MAX_FOLDED_BYTES)


def wrap_axis(axis: int, dimensions: int) -> int:
    """The axis counted from the front; ModelError if it is outside the rank."""
    if not -dimensions <= axis < dimensions:
        raise ModelError(f"axis {axis} is outside rank {dimensions}")
    return axis % dimensions


def wrap_axes(axes: list[int] | Array, dimensions: int) -> list[int]:
    """``wrap_axis`` of each; ModelError if two are the same."""
    wrapped = [wrap_axis(int(a), dimensions) for a in axes]
    if len(set(wrapped)) != len(wrapped):
        raise ModelError(f"axes {list(axes)} name an axis twice")
    return wrapped
