"""What every dialect shares: dense attributes <-> NumPy, constructors for attributes, shapes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import (
    BoolAttr,
    BytesAttr,
    DenseArrayBase,
    DenseIntOrFPElementsAttr,
    Float8E4M3FNType,
    Float8E5M2Type,
    Float32Type,
    FloatAttr,
    IntegerAttr,
    IntegerType,
    Signedness,
    TensorType,
    f32,
    f64,
    i1,
    i32,
    i64,
)
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.utils.exceptions import VerifyException

Array: TypeAlias = NDArray[Any]
Shape: TypeAlias = tuple[int, ...]
AnyTensor: TypeAlias = TensorType[Attribute]

ui8 = IntegerType(8, Signedness.UNSIGNED)
i8 = IntegerType(8)
ui4 = IntegerType(4, Signedness.UNSIGNED)
i4 = IntegerType(4)
ui2 = IntegerType(2, Signedness.UNSIGNED)
i2 = IntegerType(2)
i16 = IntegerType(16)
f8_e4m3 = Float8E4M3FNType()
f8_e5m2 = Float8E5M2Type()

ELEMENT_DTYPES: dict[Attribute, np.dtype[Any]] = {
    f32: np.dtype(np.float32),
    f64: np.dtype(np.float64),
    i1: np.dtype(np.bool_),
    i4: np.dtype(np.int8),
    ui4: np.dtype(np.uint8),
    i2: np.dtype(np.int8),
    ui2: np.dtype(np.uint8),
    i8: np.dtype(np.int8),
    ui8: np.dtype(np.uint8),
    i16: np.dtype(np.int16),
    i32: np.dtype(np.int32),
    i64: np.dtype(np.int64),
    f8_e4m3: np.dtype(np.uint8),
    f8_e5m2: np.dtype(np.uint8),
}
"""How the elements of a tensor are held in NumPy. Values below 8 bits take a byte each; those of
8-bit floats are their codes."""

NARROW: dict[Attribute, tuple[int, int]] = {i4: (-8, 7), ui4: (0, 15), i2: (-2, 1), ui2: (0, 3)}
"""Bounds of the types that take a whole byte in NumPy."""


ALL_ONES = np.uint8(255)
"""A true i1 in a dense attribute, as the parser makes it."""


def numpy_dtype(element: Attribute) -> np.dtype[Any]:
    """The NumPy dtype of an element type; VerifyException if there is none."""
    try:
        return ELEMENT_DTYPES[element]
    except KeyError:
        raise VerifyException(f"element type {element} has no run-time representation") from None


def element_type(dtype: np.dtype[Any]) -> Attribute:
    """The element type of a NumPy dtype (never one below 8 bits)."""
    for element, candidate in ELEMENT_DTYPES.items():
        if candidate == dtype and element not in NARROW:
            return element
    raise VerifyException(f"dtype {dtype} has no element type")


def tensor_type(shape: Sequence[int], element: Attribute = f32) -> AnyTensor:
    return _tensor_type(tuple(shape), element)


@lru_cache(1 << 12)
def _tensor_type(shape: Shape, element: Attribute) -> AnyTensor:
    """Types are immutable, and every verification of an op asks for its result's."""
    return TensorType(element, shape)


def dense(array: Array, element: Attribute | None = None) -> DenseIntOrFPElementsAttr:
    """A dense attribute with the array's shape; ``element`` defaults to the array's own."""
    element = element_type(array.dtype) if element is None else element
    contiguous = np.ascontiguousarray(array, numpy_dtype(element)).reshape(array.shape)
    if element == i1:
        contiguous = np.where(contiguous, ALL_ONES, np.uint8(0))
    kind = cast(Any, tensor_type(array.shape, element))
    from_bytes: Any = DenseIntOrFPElementsAttr
    return from_bytes(kind, BytesAttr(contiguous.tobytes()))


def dense_array(attribute: DenseIntOrFPElementsAttr) -> Array:
    """The read-only array of a dense attribute; a splat is expanded."""
    dtype = numpy_dtype(cast(Any, attribute.get_element_type()))
    if dtype == np.bool_:
        return (np.frombuffer(attribute.data.data, np.uint8) != 0).reshape(attribute.get_shape())
    return np.frombuffer(attribute.data.data, dtype).reshape(attribute.get_shape())


def ints(values: Sequence[int]) -> DenseArrayBase[IntegerType]:
    return DenseArrayBase.from_list(i64, list(values))


def int_tuple(attribute: DenseArrayBase[Any]) -> Shape:
    return tuple(int(v) for v in attribute.get_values())


def integer(value: int) -> IntegerAttr[IntegerType]:
    return IntegerAttr(int(value), i64)


def real(value: float) -> FloatAttr[Float32Type]:
    """A float32 attribute: the value is rounded to float32."""
    return FloatAttr(float(np.float32(value)), f32)


def boolean(value: bool) -> BoolAttr:
    return BoolAttr.from_bool(value)


def type_of(value: SSAValue | Operation) -> AnyTensor:
    """The ranked static tensor type of a value; VerifyException if it is anything else."""
    kind = SSAValue.get(value).type
    if not isinstance(kind, TensorType):
        raise VerifyException(f"expected a tensor, got {kind}")
    if min(kind.get_shape(), default=0) < 0:
        raise VerifyException(f"expected a static shape, got {kind}")
    return cast(AnyTensor, kind)


def shape_of(value: SSAValue | Operation) -> Shape:
    return tuple(type_of(value).get_shape())


def element_of(value: SSAValue | Operation) -> Attribute:
    return type_of(value).get_element_type()


def broadcast_shapes(*shapes: Shape) -> Shape:
    """NumPy broadcasting; VerifyException names the shapes."""
    try:
        return tuple(np.broadcast_shapes(*shapes))
    except ValueError:
        raise VerifyException(f"shapes {list(shapes)} do not broadcast") from None


def window_shape(
    size: tuple[int, int],
    kernel: tuple[int, int],
    strides: Shape,
    padding: Shape,
    dilations: Shape,
) -> tuple[int, int]:
    """Output height and width of a sliding window; padding is (top, left, bottom, right)."""
    out: list[int] = []
    for i in range(2):
        if strides[i] < 1 or dilations[i] < 1:
            raise VerifyException("strides and dilations must be >= 1")
        span = (kernel[i] - 1) * dilations[i] + 1
        room = size[i] + padding[i] + padding[i + 2] - span
        if room < 0:
            raise VerifyException(f"window of {span} exceeds the padded input of axis {i + 1}")
        out.append(room // strides[i] + 1)
    return out[0], out[1]


def element_count(shape: Shape) -> int:
    return prod(shape)
