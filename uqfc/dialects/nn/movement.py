"""Ops that move or select elements and never compute: defined on every element type."""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects.builtin import DenseArrayBase, FloatAttr, IntegerAttr, StringAttr, i1, i32, i64
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.irdl import irdl_op_definition, operand_def, prop_def, traits_def, var_operand_def
from xdsl.traits import Pure
from xdsl.utils.exceptions import VerifyException

from uqfc.dialects.nn.base import TensorOp
from uqfc.dialects.tensors import (
    AnyTensor,
    Shape,
    broadcast_shapes,
    element_count,
    element_of,
    int_tuple,
    integer,
    ints,
    numpy_dtype,
    real,
    shape_of,
    tensor_type,
)


@irdl_op_definition
class ReshapeOp(TensorOp):
    """The same elements in row-major order under another shape (the result type's)."""

    name = "nn.reshape"
    x = operand_def()
    traits = traits_def(Pure())
    assembly_format = "$x attr-dict `:` type($x) `->` type($result)"

    def __init__(self, x: SSAValue | Operation, shape: Sequence[int]) -> None:
        super().__init__(operands=[x], result_types=[tensor_type(shape, element_of(x))])

    def infer_type(self) -> AnyTensor:
        shape = shape_of(self.result)
        if element_count(shape) != element_count(shape_of(self.x)):
            raise VerifyException(f"nn.reshape: {shape_of(self.x)} does not hold {shape}")
        return tensor_type(shape, element_of(self.x))


@irdl_op_definition
class TransposeOp(TensorOp):
    """``result.shape[i] = x.shape[permutation[i]]``."""

    name = "nn.transpose"
    x = operand_def()
    permutation = prop_def(DenseArrayBase)
    traits = traits_def(Pure())
    assembly_format = "$x attr-dict `:` type($x) `->` type($result)"

    def __init__(self, x: SSAValue | Operation, permutation: Sequence[int]) -> None:
        shape = tuple(shape_of(x)[p] for p in permutation)
        super().__init__(
            operands=[x],
            properties={"permutation": ints(permutation)},
            result_types=[tensor_type(shape, element_of(x))],
        )

    def infer_type(self) -> AnyTensor:
        permutation, shape = int_tuple(self.permutation), shape_of(self.x)
        if sorted(permutation) != list(range(len(shape))):
            raise VerifyException(f"nn.transpose: {permutation} does not permute rank {len(shape)}")
        return tensor_type([shape[p] for p in permutation], element_of(self.x))


@irdl_op_definition
class ConcatOp(TensorOp):
    """Concatenation along ``axis`` (>= 0)."""

    name = "nn.concat"
    inputs = var_operand_def()
    axis = prop_def(IntegerAttr)
    traits = traits_def(Pure())
    assembly_format = "$inputs attr-dict `:` type($inputs) `->` type($result)"

    def __init__(self, inputs: Sequence[SSAValue | Operation], axis: int) -> None:
        shape = concat_shape([shape_of(v) for v in inputs], axis)
        super().__init__(
            operands=[list(inputs)],
            properties={"axis": integer(axis)},
            result_types=[tensor_type(shape, element_of(inputs[0]))],
        )

    def infer_type(self) -> AnyTensor:
        if not self.inputs:
            raise VerifyException("nn.concat: no inputs")
        elements = {element_of(v) for v in self.inputs}
        if len(elements) != 1:
            raise VerifyException("nn.concat: inputs have different element types")
        shape = concat_shape([shape_of(v) for v in self.inputs], self.axis.value.data)
        return tensor_type(shape, elements.pop())


def concat_shape(shapes: Sequence[Shape], axis: int) -> Shape:
    first = shapes[0]
    if not 0 <= axis < len(first):
        raise VerifyException(f"nn.concat: axis {axis} is outside rank {len(first)}")
    for shape in shapes:
        if len(shape) != len(first) or any(
            a != b for i, (a, b) in enumerate(zip(shape, first, strict=True)) if i != axis
        ):
            raise VerifyException(f"nn.concat: shapes {list(shapes)} differ outside axis {axis}")
    return (*first[:axis], sum(s[axis] for s in shapes), *first[axis + 1 :])


@irdl_op_definition
class SliceOp(TensorOp):
    """``result[i] = x[starts + i * steps]`` with the result type's shape; steps may be negative."""

    name = "nn.slice"
    x = operand_def()
    starts = prop_def(DenseArrayBase)
    steps = prop_def(DenseArrayBase)
    traits = traits_def(Pure())
    assembly_format = "$x attr-dict `:` type($x) `->` type($result)"

    def __init__(
        self,
        x: SSAValue | Operation,
        starts: Sequence[int],
        shape: Sequence[int],
        steps: Sequence[int] | None = None,
    ) -> None:
        steps = [1] * len(starts) if steps is None else steps
        super().__init__(
            operands=[x],
            properties={"starts": ints(starts), "steps": ints(steps)},
            result_types=[tensor_type(shape, element_of(x))],
        )

    def infer_type(self) -> AnyTensor:
        source, shape = shape_of(self.x), shape_of(self.result)
        starts, steps = int_tuple(self.starts), int_tuple(self.steps)
        if not len(source) == len(shape) == len(starts) == len(steps):
            raise VerifyException("nn.slice: starts, steps and shapes must have the same rank")
        for axis, (start, step, size) in enumerate(zip(starts, steps, shape, strict=True)):
            last = start + step * (size - 1)
            inside = 0 <= start < source[axis] and 0 <= last < source[axis]
            if step == 0 or (size > 0 and not inside):
                raise VerifyException(f"nn.slice: axis {axis} reads outside its {source[axis]}")
        return tensor_type(shape, element_of(self.x))


PAD_MODES = ("constant", "reflect", "edge", "wrap")


@irdl_op_definition
class PadOp(TensorOp):
    """Adds ``low``/``high`` elements per axis; ``value`` fills in mode ``constant``."""

    name = "nn.pad"
    x = operand_def()
    low = prop_def(DenseArrayBase)
    high = prop_def(DenseArrayBase)
    mode = prop_def(StringAttr)
    value = prop_def(FloatAttr)
    traits = traits_def(Pure())
    assembly_format = "$x attr-dict `:` type($x) `->` type($result)"

    def __init__(
        self,
        x: SSAValue | Operation,
        low: Sequence[int],
        high: Sequence[int],
        value: float = 0.0,
        mode: str = "constant",
    ) -> None:
        shape = [n + a + b for n, a, b in zip(shape_of(x), low, high, strict=True)]
        super().__init__(
            operands=[x],
            properties={
                "low": ints(low),
                "high": ints(high),
                "mode": StringAttr(mode),
                "value": real(value),
            },
            result_types=[tensor_type(shape, element_of(x))],
        )

    def infer_type(self) -> AnyTensor:
        shape, low, high = shape_of(self.x), int_tuple(self.low), int_tuple(self.high)
        if not len(shape) == len(low) == len(high):
            raise VerifyException("nn.pad: low and high must have the operand's rank")
        if min((*low, *high), default=0) < 0:
            raise VerifyException("nn.pad: negative padding")
        if self.mode.data not in PAD_MODES:
            raise VerifyException(
                f"nn.pad: unknown mode '{self.mode.data}'; known: {', '.join(PAD_MODES)}"
            )
        return tensor_type(
            [n + a + b for n, a, b in zip(shape, low, high, strict=True)], element_of(self.x)
        )


@irdl_op_definition
class BroadcastOp(TensorOp):
    """NumPy's ``broadcast_to`` the result type's shape."""

    name = "nn.broadcast"
    x = operand_def()
    traits = traits_def(Pure())
    assembly_format = "$x attr-dict `:` type($x) `->` type($result)"

    def __init__(self, x: SSAValue | Operation, shape: Sequence[int]) -> None:
        super().__init__(operands=[x], result_types=[tensor_type(shape, element_of(x))])

    def infer_type(self) -> AnyTensor:
        shape = shape_of(self.result)
        if broadcast_shapes(shape_of(self.x), shape) != shape:
            raise VerifyException(f"nn.broadcast: {shape_of(self.x)} does not broadcast to {shape}")
        return tensor_type(shape, element_of(self.x))


@irdl_op_definition
class GatherOp(TensorOp):
    """``take(x, indices, axis)``; indices (i32 or i64) count from the end if negative.

    An index that is out of range at run time is clamped to the nearest valid one.
    """

    name = "nn.gather"
    x = operand_def()
    indices = operand_def()
    axis = prop_def(IntegerAttr)
    traits = traits_def(Pure())
    assembly_format = "$x `,` $indices attr-dict `:` type($x) `,` type($indices) `->` type($result)"

    def __init__(self, x: SSAValue | Operation, indices: SSAValue | Operation, axis: int) -> None:
        shape = shape_of(x)
        super().__init__(
            operands=[x, indices],
            properties={"axis": integer(axis)},
            result_types=[
                tensor_type((*shape[:axis], *shape_of(indices), *shape[axis + 1 :]), element_of(x))
            ],
        )

    def infer_type(self) -> AnyTensor:
        shape, axis = shape_of(self.x), self.axis.value.data
        if element_of(self.indices) not in (i32, i64):
            raise VerifyException("nn.gather: indices must be i32 or i64")
        if not 0 <= axis < len(shape):
            raise VerifyException(f"nn.gather: axis {axis} is outside rank {len(shape)}")
        return tensor_type(
            (*shape[:axis], *shape_of(self.indices), *shape[axis + 1 :]), element_of(self.x)
        )


@irdl_op_definition
class CastOp(TensorOp):
    """Conversion of elements: float to int truncates and saturates, NaN gives 0."""

    name = "nn.cast"
    x = operand_def()
    traits = traits_def(Pure())
    assembly_format = "$x attr-dict `:` type($x) `->` type($result)"

    def __init__(self, x: SSAValue | Operation, element: Attribute) -> None:
        super().__init__(operands=[x], result_types=[tensor_type(shape_of(x), element)])

    def infer_type(self) -> AnyTensor:
        element = element_of(self.result)
        numpy_dtype(element)
        numpy_dtype(element_of(self.x))
        if element == i1 and element_of(self.x) == i1:
            raise VerifyException("nn.cast: from i1 to i1")
        return tensor_type(shape_of(self.x), element)
