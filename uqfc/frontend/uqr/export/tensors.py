"""NumPy arrays as ONNX tensors, and the ONNX type of every element type."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto
from xdsl.dialects.builtin import f32, i1, i32, i64
from xdsl.ir import Attribute

from uqfc.dialects.quant import STORAGE_ELEMENTS, UniformType
from uqfc.dialects.tensors import (
    Array,
    f8_e4m3,
    f8_e5m2,
    i2,
    i4,
    i8,
    numpy_dtype,
    ui2,
    ui4,
    ui8,
)
from uqfc.frontend.values import UnsupportedUseError

ONNX_TYPES: dict[Attribute, int] = {
    f32: TensorProto.FLOAT,
    i1: TensorProto.BOOL,
    i4: TensorProto.INT4,
    ui4: TensorProto.UINT4,
    i2: TensorProto.INT4,
    ui2: TensorProto.UINT4,
    i8: TensorProto.INT8,
    ui8: TensorProto.UINT8,
    i32: TensorProto.INT32,
    i64: TensorProto.INT64,
    f8_e4m3: TensorProto.FLOAT8E4M3FN,
    f8_e5m2: TensorProto.FLOAT8E5M2,
}
"""Two bits are held in four, of which the document knows: ONNX has them from opset 25 on, but
ONNX Runtime (1.32) fuses such weights into a QLinearConv that it then refuses."""
PACKED: dict[int, int] = {TensorProto.INT4: 4, TensorProto.UINT4: 4}
"""Bits of the types of which a byte holds several, the first one lowest."""


def onnx_type(element: Attribute) -> int:
    """The ONNX type of an element type, or of the storage of a quantized one.

    UnsupportedUseError if there is none.
    """
    if isinstance(element, UniformType):
        element = STORAGE_ELEMENTS.get(element.data.storage, i32)
    if element not in ONNX_TYPES:
        raise UnsupportedUseError(f"ONNX has no tensors of {element}")
    return ONNX_TYPES[element]


def packed(values: Array, bits: int) -> bytes:
    """Integers of ``bits`` bits, several to a byte."""
    per_byte = 8 // bits
    flat = values.reshape(-1).view(np.uint8) & np.uint8((1 << bits) - 1)
    padded = np.zeros(-(-flat.size // per_byte) * per_byte, np.uint8)
    padded[: flat.size] = flat
    lanes = padded.reshape(-1, per_byte) << np.arange(0, 8, bits, dtype=np.uint8)
    return np.bitwise_or.reduce(lanes, axis=1).tobytes()


def tensor(name: str, array: Array, element: Attribute) -> TensorProto:
    """An initializer; UnsupportedUseError for elements that ONNX does not have."""
    data_type = onnx_type(element)
    bits, values = PACKED.get(data_type), array.astype(numpy_dtype(element))
    data = values.tobytes() if bits is None else packed(values, bits)
    return TensorProto(name=name, data_type=data_type, dims=array.shape, raw_data=data)
