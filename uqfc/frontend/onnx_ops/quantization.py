"""QuantizeLinear and DequantizeLinear: the quantize points that a model brings along."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from onnx import TensorProto
from xdsl.dialects.builtin import f32, i32
from xdsl.ir import Attribute, SSAValue

from uqfc import float8
from uqfc.dialects.quant import (
    STORAGE_ELEMENTS,
    STORAGE_RANGES,
    DcastOp,
    QcastOp,
    QuantParams,
    ScastOp,
    UniformType,
    check_fits,
    check_params,
)
from uqfc.dialects.tensors import (
    Array,
    element_of,
    f8_e4m3,
    f8_e5m2,
    i4,
    i8,
    numpy_dtype,
    ui4,
    ui8,
)
from uqfc.errors import ModelError
from uqfc.frontend.builder import Builder
from uqfc.frontend.node import Meant, Node
from uqfc.frontend.onnx_ops.registry import MICROSOFT, converter
from uqfc.frontend.tensors import type_name
from uqfc.frontend.values import (
    Constant,
    Quantized,
    UnsupportedUseError,
    Value,
    dims,
    kind,
    known,
    rank,
    wrap_axis,
)
from uqfc.numerics import quantize

STORAGE: dict[Attribute, str] = {
    **{element: storage for storage, element in STORAGE_ELEMENTS.items()},
    i32: "i32",
}
STORAGE_OF_ONNX: dict[int, str] = {
    TensorProto.UINT8: "u8",
    TensorProto.INT8: "i8",
    TensorProto.UINT4: "u4",
    TensorProto.INT4: "i4",
    TensorProto.FLOAT8E4M3FN: "f8E4M3FN",
    TensorProto.FLOAT8E5M2: "f8E5M2",
}
OUTPUTS = (ui8, i8, ui4, i4, f8_e4m3, f8_e5m2)
TYPES = "integers of 8 and 4 bits, float8e4m3fn and float8e5m2"


@dataclass(frozen=True)
class Scheme:
    """Scale and zero point as the node gives them, before they are fitted to a tensor."""

    scale: Array
    zero_point: Array
    axis: int
    block: int
    meant: Meant | None = None

    def params(self, storage: str, shape: tuple[int, ...]) -> QuantParams:
        """For a tensor of this shape; ModelError or VerifyException if they do not fit."""
        if self.zero_point.size not in (1, self.scale.size):
            raise ModelError(f"{self.scale.size} scales, but {self.zero_point.size} zero points")
        if self.scale.ndim > 1 and self.block == 0:
            raise ModelError(f"a scale of shape {list(self.scale.shape)} needs block_size")
        qmin, qmax = (None, None) if self.meant is None else self.meant.limits
        if self.scale.size == 1 and self.block == 0:
            zero_point = self.zero_point.reshape(-1)
            params = QuantParams.of(storage, self.scale, zero_point, qmin=qmin, qmax=qmax)
        else:
            axis = wrap_axis(self.axis, len(shape))
            params = QuantParams.of(
                storage,
                self.scale,
                np.broadcast_to(self.zero_point.reshape(-1), (self.scale.size,)),
                axis=axis,
                block=self.block,
                qmin=qmin,
                qmax=qmax,
            )
        check_params(params)
        check_fits(params, shape)
        return params


def scheme_of(node: Node, scale: int, zero_point: int) -> Scheme:
    """From the inputs of these numbers and the attributes ``axis`` and ``block_size``."""
    scales = node.array(scale, "scale")
    if kind(node.input(scale)) != f32:
        raise UnsupportedUseError(f"scale has elements {kind(node.input(scale))}, expected floats")
    zeros = node.optional_array(zero_point, "zero_point")
    zeros = np.zeros((), np.int32) if zeros is None else zeros
    axis, block = node.integer("axis", 1), node.integer("block_size", 0)
    return Scheme(scales, zeros, axis, block, node.meant)


def storage_of(element: Attribute) -> str:
    if element not in STORAGE:
        raise UnsupportedUseError(f"quantized elements {element}: supported are {TYPES}, and int32")
    return STORAGE[element]


def output_storage(node: Node) -> str:
    """The type of the zero point, or ``output_dtype``, or uint8."""
    data_type = node.integer("output_dtype", 0)
    if node.has(2):
        element = kind(node.input(2))
        if element not in OUTPUTS:
            raise UnsupportedUseError(f"quantization to {element}: supported are {TYPES}")
        return STORAGE[element]
    if data_type == 0:
        return "u8"
    if data_type not in STORAGE_OF_ONNX:
        raise UnsupportedUseError(f"quantization to {type_name(data_type)}: supported are {TYPES}")
    return STORAGE_OF_ONNX[data_type]


@converter("QuantizeLinear")
@converter("QuantizeLinear", domain=MICROSOFT)
def quantize_linear(node: Node, b: Builder) -> Value:
    node.ignore("precision")
    saturates = node.integer("saturate", 1)
    x = node.float_in(0)
    if known(node.input(1)) is None:
        return quantized_at_run_time(node, b, x)
    params = scheme_of(node, 1, 2).params(output_storage(node), dims(x))
    if params.float8 is not None and not saturates:
        raise UnsupportedUseError("saturate = 0: supported is 1, no value becomes infinite or NaN")
    return quantized(b, x, params)


def quantized(b: Builder, x: Value, params: QuantParams) -> Value:
    """``quant.qcast``; constants are quantized now. Per-axis results are given as integers."""
    array = known(x)
    if array is not None:
        scale, zero_point = params.broadcast(array.shape)
        element = STORAGE_ELEMENTS[params.storage]
        if params.float8 is not None:
            return Constant(float8.quantize(array, scale, params.float8), element)
        stored = quantize(array, scale, zero_point, params.qmin, params.qmax)
        return Constant(stored.astype(numpy_dtype(element)), element)
    result = b.emit(QcastOp(b.ssa(x), params))
    return result if params.axis is None else b.stored(result)


def quantized_at_run_time(node: Node, b: Builder, x: Value) -> Value:
    """The definition of QuantizeLinear in float ops, for one scale that only the run knows."""
    node.ignore("axis", "block_size")
    storage = output_storage(node)
    if dims(node.input(1)) not in ((), (1,)) or storage not in ("u8", "i8"):
        raise UnsupportedUseError(
            "a scale that is not a constant must be a scalar, and elements of 8 bits"
        )
    element, (low, high) = STORAGE_ELEMENTS[storage], STORAGE_RANGES[storage]
    scaled = b.unary("round", b.div(x, b.reshape(node.input(1), ())))
    if node.has(2):
        scaled = b.add(scaled, b.cast(b.reshape(node.input(2), ()), f32))
    return b.cast(b.unary("clip", scaled, float(low), float(high)), element)


def dequantized_at_run_time(node: Node, b: Builder) -> Value:
    """``(q - zero_point) * scale`` in float ops, for one scale that only the run knows."""
    node.ignore("axis", "block_size")
    if dims(node.input(1)) not in ((), (1,)):
        raise UnsupportedUseError("a scale that is not a constant must be a scalar")
    q = node.input(0)
    q = b.cast(b.stored(q) if isinstance(q, SSAValue) else q, f32)
    if node.has(2):
        q = b.sub(q, b.cast(b.reshape(node.input(2), ()), f32))
    return b.mul(q, b.reshape(node.input(1), ()))


@converter("DequantizeLinear", moves=True)
@converter("DequantizeLinear", domain=MICROSOFT, moves=True)
def dequantize_linear(node: Node, b: Builder) -> Value:
    node.ignore("output_dtype")
    if known(node.input(1)) is None:
        return dequantized_at_run_time(node, b)
    return dequantized(b, node.input(0), scheme_of(node, 1, 2))


def dequantized(b: Builder, x: Value, scheme: Scheme) -> Value:
    """``quant.dcast``. Constants stay integers, but for int32: those are biases."""
    if isinstance(x, SSAValue):
        return dcast(b, x, scheme)
    if isinstance(x, Quantized):
        raise ModelError("the input is float32, expected integers")
    if x.element == i32 and rank(x) <= 1:
        return dequantized_bias(x, scheme)
    meant = None if scheme.meant is None else scheme.meant.storage
    storage = meant or storage_of(x.element)
    params = scheme.params(storage, dims(x))
    return Quantized(x.array, params, STORAGE_ELEMENTS.get(storage, x.element), b.layer)


def dcast(b: Builder, x: SSAValue, scheme: Scheme) -> Value:
    """The float32 values of integers, or of already quantized values of the same parameters."""
    element = element_of(x)
    storage = element.data.storage if isinstance(element, UniformType) else storage_of(element)
    target = UniformType(scheme.params(storage, dims(x)))
    if isinstance(element, UniformType) and element.data == narrowed(target.data, element.data):
        return b.emit(DcastOp(x))
    integers = b.stored(x)
    owner = integers.owner
    if isinstance(owner, ScastOp) and element_of(owner.x) == target:
        return b.emit(DcastOp(owner.x))
    return b.emit(DcastOp(b.emit(ScastOp(integers, target))))


def narrowed(params: QuantParams, other: QuantParams) -> QuantParams:
    """The parameters with the integers of the other ones."""
    return replace(params, qmin=other.qmin, qmax=other.qmax)


def dequantized_bias(x: Constant, scheme: Scheme) -> Constant:
    """``q * scale`` in float64, rounded to float32 once."""
    if scheme.zero_point.any():
        raise UnsupportedUseError("an int32 tensor with a zero point other than 0")
    scale = scheme.scale.astype(np.float64)
    if scale.size not in (1, x.array.size):
        raise ModelError(f"{scale.size} scales for {x.array.size} values")
    values = x.array * scale.reshape(-1 if x.array.ndim else ())
    return Constant(values.astype(np.float32), f32)
