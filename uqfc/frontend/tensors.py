"""ONNX tensors to NumPy, with everything that the file claims checked before it is believed."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from onnx import TensorProto, numpy_helper
from xdsl.dialects.builtin import f32, i1, i32, i64
from xdsl.ir import Attribute

from uqfc.dialects.qnn import FORMAT_OF
from uqfc.dialects.tensors import f8_e4m3, f8_e5m2, i2, i4, i8, numpy_dtype, ui2, ui4, ui8
from uqfc.errors import ModelError
from uqfc.float8 import is_finite
from uqfc.frontend.values import Constant, UnsupportedUseError, check_size

ELEMENTS: dict[int, Attribute] = {
    TensorProto.FLOAT: f32,
    TensorProto.DOUBLE: f32,
    TensorProto.FLOAT16: f32,
    TensorProto.BFLOAT16: f32,
    TensorProto.INT8: i8,
    TensorProto.UINT8: ui8,
    TensorProto.INT16: i32,
    TensorProto.UINT16: i32,
    TensorProto.INT32: i32,
    TensorProto.UINT32: i64,
    TensorProto.INT64: i64,
    TensorProto.UINT64: i64,
    TensorProto.BOOL: i1,
    TensorProto.INT4: i4,
    TensorProto.UINT4: ui4,
    TensorProto.INT2: i2,
    TensorProto.UINT2: ui2,
    TensorProto.FLOAT8E4M3FN: f8_e4m3,
    TensorProto.FLOAT8E5M2: f8_e5m2,
}
"""The element type that an ONNX type is imported as: floats as float32, integers widened; of 8-bit
floats the codes."""

EXACT = (
    TensorProto.FLOAT,
    TensorProto.INT8,
    TensorProto.UINT8,
    TensorProto.INT32,
    TensorProto.INT64,
    TensorProto.BOOL,
    TensorProto.INT4,
    TensorProto.UINT4,
    TensorProto.INT2,
    TensorProto.UINT2,
)
"""Types that are imported as they are."""

BITS: dict[int, int] = {
    TensorProto.FLOAT: 32,
    TensorProto.DOUBLE: 64,
    TensorProto.FLOAT16: 16,
    TensorProto.BFLOAT16: 16,
    TensorProto.INT8: 8,
    TensorProto.UINT8: 8,
    TensorProto.INT16: 16,
    TensorProto.UINT16: 16,
    TensorProto.INT32: 32,
    TensorProto.UINT32: 32,
    TensorProto.INT64: 64,
    TensorProto.UINT64: 64,
    TensorProto.BOOL: 8,
    TensorProto.INT4: 4,
    TensorProto.UINT4: 4,
    TensorProto.INT2: 2,
    TensorProto.UINT2: 2,
    TensorProto.FLOAT8E4M3FN: 8,
    TensorProto.FLOAT8E5M2: 8,
}


def type_name(data_type: int) -> str:
    """``float16`` and the like."""
    known = {number: name for name, number in TensorProto.DataType.items()}
    return known.get(data_type, f"type {data_type}").lower()


def element_of_onnx(data_type: int) -> Attribute:
    """The element type of an ONNX type; UnsupportedUseError if there is none."""
    if data_type not in ELEMENTS:
        raise UnsupportedUseError(f"elements of type {type_name(data_type)} are not supported")
    return ELEMENTS[data_type]


def check_tensor(tensor: TensorProto, what: str) -> None:
    """ModelError unless dimensions, size and length of the data are consistent."""
    shape = tuple(tensor.dims)
    if any(d < 0 for d in shape):
        raise ModelError(f"{what} has a negative dimension: {list(shape)}")
    if tensor.data_type not in ELEMENTS:
        return
    check_size(shape, ELEMENTS[tensor.data_type], what)
    if tensor.data_location == TensorProto.EXTERNAL or not tensor.HasField("raw_data"):
        return
    expected = (prod(shape) * BITS[tensor.data_type] + 7) // 8
    if len(tensor.raw_data) != expected:
        raise ModelError(
            f"{what} holds {len(tensor.raw_data)} bytes; shape {list(shape)} of "
            f"{type_name(tensor.data_type)} needs {expected}"
        )


def read_tensor(tensor: TensorProto, what: str) -> Constant:
    """The tensor's values in the element type they are imported as."""
    element = element_of_onnx(tensor.data_type)
    check_tensor(tensor, what)
    try:
        array: Any = numpy_helper.to_array(tensor)
    except (ValueError, TypeError) as error:
        raise ModelError(f"{what} cannot be read: {error}") from None
    if tensor.data_type == TensorProto.UINT64 and array.size and array.max() >= 2**63:
        raise UnsupportedUseError(f"{what} has values of 2**63 and above")
    if (form := FORMAT_OF.get(element)) is not None:
        codes = array.view(np.uint8)
        if not is_finite(codes, form):
            raise UnsupportedUseError(f"{what} has values that are not finite")
        return Constant(codes, element)
    with np.errstate(over="ignore"):
        return Constant(np.asarray(array.astype(numpy_dtype(element), copy=False)), element)
