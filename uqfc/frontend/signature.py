"""Static shapes of the model's inputs, from the file and from what the user gave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from onnx import TensorProto, ValueInfoProto

from uqfc.dialects.tensors import AnyTensor, Shape
from uqfc.errors import ModelError, UnsupportedError, UnsupportedNode
from uqfc.frontend.tensors import ELEMENTS, element_of_onnx, type_name
from uqfc.frontend.values import UnsupportedUseError, check_size

NARROW = (
    TensorProto.INT4,
    TensorProto.UINT4,
    TensorProto.INT2,
    TensorProto.UINT2,
    TensorProto.FLOAT8E4M3FN,
    TensorProto.FLOAT8E5M2,
)
ANONYMOUS = ("", "?")
"""Names of dynamic dimensions that say nothing about being equal to others of that name."""


@dataclass(frozen=True)
class Signature:
    """Inputs in the model's order; ``assumed_batch`` are those whose first dimension became 1."""

    shapes: dict[str, Shape]
    types: dict[str, int]
    assumed_batch: tuple[str, ...]


Dimension = int | str
"""A size, or the name of a dynamic dimension (empty if it has none)."""


def declared(info: ValueInfoProto) -> list[Dimension] | None:
    """The dimensions that the file declares; None if it leaves the rank open."""
    tensor = info.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    result: list[Dimension] = []
    for dimension in tensor.shape.dim:
        if dimension.HasField("dim_value") and dimension.dim_value != -1:
            result.append(dimension.dim_value)
        else:
            result.append(dimension.dim_param)
    return result


def resolve_inputs(
    inputs: Sequence[ValueInfoProto], shapes: Mapping[str, Sequence[int]], source: str
) -> Signature:
    """Static input shapes; ModelError names the input and dimension that stays dynamic.

    Named dimensions are the same wherever they appear. A first dimension that nobody gives is the
    batch and becomes 1.
    """
    names = [i.name for i in inputs]
    for name in shapes:
        if name not in names:
            raise ModelError(f"{source}: no input '{name}'; the inputs are: {', '.join(names)}")
    for info in inputs:
        check_type(info, source)
    symbols: dict[str, int] = {}
    for info in inputs:
        if info.name in shapes:
            bind(info, tuple(int(d) for d in shapes[info.name]), symbols, source)
    resolved: dict[str, Shape] = {}
    assumed: list[str] = []
    for info in inputs:
        shape, batch_assumed = resolve(info, shapes.get(info.name), symbols, source)
        check_shape(info, shape, source)
        resolved[info.name] = shape
        if batch_assumed:
            assumed.append(info.name)
    types = {i.name: i.type.tensor_type.elem_type for i in inputs}
    return Signature(resolved, types, tuple(assumed))


def check_type(info: ValueInfoProto, source: str) -> None:
    """UnsupportedError for an input that is no tensor of a supported type."""
    if info.type.WhichOneof("value") != "tensor_type":
        why = "only tensors are supported"
        raise UnsupportedError([UnsupportedNode(info.name, "input", why)], source)
    data_type = info.type.tensor_type.elem_type
    try:
        element_of_onnx(data_type)
        if data_type in NARROW:
            raise UnsupportedUseError(f"inputs of type {type_name(data_type)} are not supported")
    except UnsupportedUseError as error:
        raise UnsupportedError([UnsupportedNode(info.name, "input", str(error))], source) from None


def bind(info: ValueInfoProto, given: Shape, symbols: dict[str, int], source: str) -> None:
    """Check ``given`` against the file and note the sizes of named dimensions."""
    dimensions = declared(info)
    where = f"{source}: input '{info.name}'"
    if dimensions is None:
        return
    if len(dimensions) != len(given):
        raise ModelError(f"{where} has rank {len(dimensions)}, the given shape {list(given)} not")
    for axis, (dimension, size) in enumerate(zip(dimensions, given, strict=True)):
        expected = dimension
        if isinstance(dimension, str):
            expected = size if dimension in ANONYMOUS else symbols.setdefault(dimension, size)
        if expected != size:
            raise ModelError(f"{where}: dimension {axis} is {expected}, the given shape has {size}")


def resolve(
    info: ValueInfoProto, given: Sequence[int] | None, symbols: dict[str, int], source: str
) -> tuple[Shape, bool]:
    """The static shape of one input, and whether its batch was assumed to be 1."""
    if given is not None:
        return tuple(int(d) for d in given), False
    dimensions = declared(info)
    where = f"{source}: input '{info.name}'"
    if dimensions is None:
        raise ModelError(f"{where} has no shape: give one, e.g. --shape {info.name}=1x3x224x224")
    assumed = False
    shape: list[int] = []
    for axis, dimension in enumerate(dimensions):
        size = symbols.get(dimension) if isinstance(dimension, str) else dimension
        if size is None and axis == 0:
            assumed, size = True, 1
            if isinstance(dimension, str) and dimension not in ANONYMOUS:
                symbols[dimension] = 1
        if size is None:
            label = f"dimension {axis} ('{dimension}')" if dimension else f"dimension {axis}"
            hint = "x".join(str(d) if isinstance(d, int) else "N" for d in dimensions)
            raise ModelError(
                f"{where}: {label} is dynamic: give its size with --shape {info.name}={hint}"
            )
        shape.append(size)
    return tuple(shape), assumed


def check_shape(info: ValueInfoProto, shape: Shape, source: str) -> None:
    """ModelError unless every dimension is positive and the tensor is within the limits."""
    where = f"{source}: input '{info.name}'"
    for axis, size in enumerate(shape):
        if size < 0:
            raise ModelError(f"{where}: dimension {axis} is {size}, must be at least 1")
        if size == 0:
            why = f"dimension {axis} is 0: empty tensors are not supported"
            raise UnsupportedError([UnsupportedNode(info.name, "input", why)], source)
    check_size(shape, element_of_onnx(info.type.tensor_type.elem_type), where)


def check_outputs(
    outputs: Sequence[ValueInfoProto], actual: Mapping[str, AnyTensor], source: str
) -> None:
    """ModelError if the file declares another type or static shape than the graph computes."""
    for info in outputs:
        computed = actual[info.name]
        where = f"{source}: output '{info.name}'"
        data_type = info.type.tensor_type.elem_type
        element = ELEMENTS.get(data_type)
        if data_type != TensorProto.UNDEFINED and element != computed.get_element_type():
            raise ModelError(
                f"{where} is declared as {type_name(data_type)}, "
                f"but the graph computes {computed.get_element_type()}"
            )
        dimensions, shape = declared(info), computed.get_shape()
        if dimensions is None:
            continue
        fits = len(dimensions) == len(shape) and all(
            isinstance(d, str) or d == s for d, s in zip(dimensions, shape, strict=True)
        )
        if not fits:
            raise ModelError(
                f"{where} is declared as {dimensions}, but the graph computes {list(shape)}"
            )
