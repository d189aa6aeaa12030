"""Pooling, reductions and normalisations. Images are NHWC."""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence
from typing import TypeAlias

from xdsl.dialects.builtin import BoolAttr, DenseArrayBase, FloatAttr, IntegerAttr, StringAttr, f32
from xdsl.ir import Operation, SSAValue
from xdsl.irdl import irdl_op_definition, operand_def, prop_def, traits_def
from xdsl.traits import Pure
from xdsl.utils.exceptions import VerifyException

from uqfc.dialects.nn.base import TensorOp
from uqfc.dialects.tensors import (
    AnyTensor,
    Shape,
    boolean,
    element_of,
    int_tuple,
    integer,
    ints,
    real,
    shape_of,
    tensor_type,
    type_of,
    window_shape,
)

PoolWindow: TypeAlias = tuple[Shape, Shape, Shape, Shape]
"""Kernel, strides, padding (top, left, bottom, right) and dilations."""


class Pool2dOp(TensorOp, ABC):
    """A window over [N, H, W, C]; padding is (top, left, bottom, right)."""

    x = operand_def()
    kernel = prop_def(DenseArrayBase)
    strides = prop_def(DenseArrayBase)
    padding = prop_def(DenseArrayBase)
    dilations = prop_def(DenseArrayBase)
    traits = traits_def(Pure())
    assembly_format = "$x attr-dict `:` type($x) `->` type($result)"

    def __init__(
        self,
        x: SSAValue | Operation,
        kernel: Sequence[int],
        strides: Sequence[int] = (1, 1),
        padding: Sequence[int] = (0, 0, 0, 0),
        dilations: Sequence[int] = (1, 1),
    ) -> None:
        shape = pool_shape(
            shape_of(x), tuple(kernel), tuple(strides), tuple(padding), tuple(dilations)
        )
        super().__init__(
            operands=[x],
            properties={
                "kernel": ints(kernel),
                "strides": ints(strides),
                "padding": ints(padding),
                "dilations": ints(dilations),
            },
            result_types=[tensor_type(shape, element_of(x))],
        )

    def infer_type(self) -> AnyTensor:
        shape = pool_shape(
            shape_of(self.x),
            int_tuple(self.kernel),
            int_tuple(self.strides),
            int_tuple(self.padding),
            int_tuple(self.dilations),
        )
        return tensor_type(shape, element_of(self.x))


def pool_shape(x: Shape, kernel: Shape, strides: Shape, padding: Shape, dilations: Shape) -> Shape:
    if len(x) != 4:
        raise VerifyException(f"pooling takes rank 4, got {x}")
    if len(kernel) != 2 or len(strides) != 2 or len(padding) != 4 or len(dilations) != 2:
        raise VerifyException("pooling takes 2 kernel sizes, 2 strides, 4 paddings, 2 dilations")
    if min(kernel) < 1 or min(padding) < 0:
        raise VerifyException("pooling: kernel must be >= 1 and padding >= 0")
    height, width = window_shape((x[1], x[2]), (kernel[0], kernel[1]), strides, padding, dilations)
    return x[0], height, width, x[3]


@irdl_op_definition
class MaxPool2dOp(Pool2dOp):
    """Maximum over the window's elements inside the image (padding never wins); any element type.

    A window with no element inside gives the type's lowest value.
    """

    name = "nn.max_pool2d"


@irdl_op_definition
class AvgPool2dOp(Pool2dOp):
    """Mean over the window: sum of the elements inside (row-major over the window, from +0.0, one
    rounded addition each) divided by the window size, or, without ``count_include_pad``, by the
    number of elements inside."""

    name = "nn.avg_pool2d"
    count_include_pad = prop_def(BoolAttr)

    def __init__(
        self,
        x: SSAValue | Operation,
        kernel: Sequence[int],
        strides: Sequence[int] = (1, 1),
        padding: Sequence[int] = (0, 0, 0, 0),
        dilations: Sequence[int] = (1, 1),
        *,
        count_include_pad: bool = False,
    ) -> None:
        super().__init__(x, kernel, strides, padding, dilations)
        self.properties["count_include_pad"] = boolean(count_include_pad)


REDUCTIONS = ("sum", "mean", "max", "min", "prod")


@irdl_op_definition
class ReduceOp(TensorOp):
    """Reduction over ``axes`` (sorted, >= 0), which stay as dimensions of size 1.

    Sums and means of float32: the axes are flattened row-major and added as
    ``numerics.strided_sum``; mean then divides by the count. Others go in row-major order.
    """

    name = "nn.reduce"
    x = operand_def()
    kind = prop_def(StringAttr)
    axes = prop_def(DenseArrayBase)
    traits = traits_def(Pure())
    assembly_format = "$x attr-dict `:` type($x) `->` type($result)"

    def __init__(self, x: SSAValue | Operation, kind: str, axes: Sequence[int]) -> None:
        axes = sorted(axes)
        super().__init__(
            operands=[x],
            properties={"kind": StringAttr(kind), "axes": ints(axes)},
            result_types=[tensor_type(reduced_shape(shape_of(x), tuple(axes)), element_of(x))],
        )

    def infer_type(self) -> AnyTensor:
        if self.kind.data not in REDUCTIONS:
            raise VerifyException(
                f"nn.reduce: unknown kind '{self.kind.data}'; known: {', '.join(REDUCTIONS)}"
            )
        shape = reduced_shape(shape_of(self.x), int_tuple(self.axes))
        return tensor_type(shape, element_of(self.x))


def reduced_shape(shape: Shape, axes: Shape) -> Shape:
    if list(axes) != sorted(set(axes)) or any(not 0 <= a < len(shape) for a in axes):
        raise VerifyException(f"axes {axes} are not distinct sorted axes of rank {len(shape)}")
    return tuple(1 if i in axes else d for i, d in enumerate(shape))


class NormalizingOp(TensorOp, ABC):
    """An op whose result has the operand's type."""

    x = operand_def()
    traits = traits_def(Pure())

    def infer_type(self) -> AnyTensor:
        if element_of(self.x) != f32:
            raise VerifyException(f"{self.name} takes float32")
        return type_of(self.x)


@irdl_op_definition
class SoftmaxOp(NormalizingOp):
    """``e = exp(x - max(x)); e / strided_sum(e)`` over ``axis``."""

    name = "nn.softmax"
    axis = prop_def(IntegerAttr)
    assembly_format = "$x attr-dict `:` type($x) `->` type($result)"

    def __init__(self, x: SSAValue | Operation, axis: int) -> None:
        super().__init__(
            operands=[x], properties={"axis": integer(axis)}, result_types=[type_of(x)]
        )

    def infer_type(self) -> AnyTensor:
        if not 0 <= self.axis.value.data < len(shape_of(self.x)):
            raise VerifyException("nn.softmax: axis is outside the operand's rank")
        return super().infer_type()


@irdl_op_definition
class LayerNormOp(NormalizingOp):
    """Over the last ``scale.rank`` dimensions: ``d = x - mean(x)``;
    ``d / sqrt(mean(d * d) + epsilon) * scale + bias``; means are strided sums / count."""

    name = "nn.layer_norm"
    x = operand_def()  # again, as operands of a base class come after those of a subclass
    scale = operand_def()
    bias = operand_def()
    epsilon = prop_def(FloatAttr)
    assembly_format = (
        "$x `,` $scale `,` $bias attr-dict "
        "`:` type($x) `,` type($scale) `,` type($bias) `->` type($result)"
    )

    def __init__(
        self,
        x: SSAValue | Operation,
        scale: SSAValue | Operation,
        bias: SSAValue | Operation,
        epsilon: float,
    ) -> None:
        super().__init__(
            operands=[x, scale, bias],
            properties={"epsilon": real(epsilon)},
            result_types=[type_of(x)],
        )

    def infer_type(self) -> AnyTensor:
        tail = shape_of(self.scale)
        fits = bool(tail) and shape_of(self.x)[-len(tail) :] == tail == shape_of(self.bias)
        if not fits:
            raise VerifyException("nn.layer_norm: scale and bias must match the last dimensions")
        return super().infer_type()


@irdl_op_definition
class LrnOp(NormalizingOp):
    """Local response normalisation over the last axis (channels): ``x / pow(bias + alpha / size *
    s, beta)``; ``s`` sums squares of channels ``c - (size-1)//2 … c + size//2`` in that order."""

    name = "nn.lrn"
    size = prop_def(IntegerAttr)
    alpha = prop_def(FloatAttr)
    beta = prop_def(FloatAttr)
    bias = prop_def(FloatAttr)
    assembly_format = "$x attr-dict `:` type($x) `->` type($result)"

    def __init__(
        self, x: SSAValue | Operation, size: int, alpha: float, beta: float, bias: float
    ) -> None:
        super().__init__(
            operands=[x],
            properties={
                "size": integer(size),
                "alpha": real(alpha),
                "beta": real(beta),
                "bias": real(bias),
            },
            result_types=[type_of(x)],
        )

    def infer_type(self) -> AnyTensor:
        if self.size.value.data < 1:
            raise VerifyException("nn.lrn: size must be >= 1")
        return super().infer_type()


@irdl_op_definition
class InterpolateOp(TensorOp):
    """Resampling along ``axis``: ``y[i] = sum_t x[indices[i, t]] * weights[i, t]``, each product
    rounded, added in order of t. indices i64 [n, T], weights f32 [n, T], both constant."""

    name = "nn.interpolate"
    x = operand_def()
    indices = operand_def()
    weights = operand_def()
    axis = prop_def(IntegerAttr)
    traits = traits_def(Pure())
    assembly_format = (
        "$x `,` $indices `,` $weights attr-dict "
        "`:` type($x) `,` type($indices) `,` type($weights) `->` type($result)"
    )

    def __init__(
        self,
        x: SSAValue | Operation,
        indices: SSAValue | Operation,
        weights: SSAValue | Operation,
        axis: int,
    ) -> None:
        shape = shape_of(x)
        count = shape_of(indices)[0]
        super().__init__(
            operands=[x, indices, weights],
            properties={"axis": integer(axis)},
            result_types=[tensor_type((*shape[:axis], count, *shape[axis + 1 :]), f32)],
        )

    def infer_type(self) -> AnyTensor:
        shape, taps, axis = shape_of(self.x), shape_of(self.indices), self.axis.value.data
        if len(taps) != 2 or taps != shape_of(self.weights):
            raise VerifyException("nn.interpolate: indices and weights must be [n, T]")
        if not 0 <= axis < len(shape):
            raise VerifyException("nn.interpolate: axis is outside the operand's rank")
        return tensor_type((*shape[:axis], taps[0], *shape[axis + 1 :]), f32)
