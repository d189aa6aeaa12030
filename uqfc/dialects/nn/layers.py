"""Convolution, linear and matrix products. Images are NHWC, convolution weights OHWI."""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence
from typing import TypeAlias

from xdsl.dialects.builtin import DenseArrayBase, IntegerAttr, f32
from xdsl.ir import Operation, SSAValue
from xdsl.irdl import (
    AttrSizedOperandSegments,
    ParsePropInAttrDict,
    irdl_op_definition,
    operand_def,
    opt_operand_def,
    opt_prop_def,
    prop_def,
    traits_def,
)
from xdsl.traits import Pure
from xdsl.utils.exceptions import VerifyException

from uqfc.dialects.nn.base import FnAttr, TensorOp
from uqfc.dialects.tensors import (
    AnyTensor,
    Shape,
    broadcast_shapes,
    element_of,
    int_tuple,
    integer,
    ints,
    shape_of,
    tensor_type,
    window_shape,
)


def conv2d_shape(
    x: Shape, w: Shape, strides: Shape, padding: Shape, dilations: Shape, groups: int
) -> Shape:
    """NHWC result shape; VerifyException says what does not fit."""
    if len(x) != 4 or len(w) != 4:
        raise VerifyException(f"conv2d takes rank 4, got input {x} and weight {w}")
    if len(strides) != 2 or len(padding) != 4 or len(dilations) != 2:
        raise VerifyException("conv2d takes 2 strides, 4 paddings and 2 dilations")
    if min(padding) < 0:
        raise VerifyException("conv2d: negative padding")
    if groups < 1 or x[3] != w[3] * groups or w[0] % groups:
        raise VerifyException(f"conv2d: weight {w} does not fit {x[3]} channels in {groups} groups")
    height, width = window_shape((x[1], x[2]), (w[1], w[2]), strides, padding, dilations)
    return x[0], height, width, w[0]


def check_bias(op: str, bias: SSAValue | None, channels: int) -> None:
    if bias is not None and shape_of(bias) != (channels,):
        raise VerifyException(f"{op}: bias is {shape_of(bias)}, expected ({channels},)")


def check_residual(op: str, residual: SSAValue | None, shape: Shape) -> None:
    if residual is not None and shape_of(residual) != shape:
        raise VerifyException(f"{op}: residual is {shape_of(residual)}, expected {shape}")


class ConvolutionOp(TensorOp, ABC):
    """What convolutions share: x [N, H, W, C], weight [O, kh, kw, C / groups], and the window.

    ``padding`` is (top, left, bottom, right). Subclasses declare all operands, in their order.
    """

    x = operand_def()
    weight = operand_def()
    strides = prop_def(DenseArrayBase)
    padding = prop_def(DenseArrayBase)
    dilations = prop_def(DenseArrayBase)
    groups = prop_def(IntegerAttr)

    @property
    def result_shape(self) -> Shape:
        """[N, H', W', O]; VerifyException says what does not fit."""
        return conv2d_shape(
            shape_of(self.x),
            shape_of(self.weight),
            int_tuple(self.strides),
            int_tuple(self.padding),
            int_tuple(self.dilations),
            self.groups.value.data,
        )

    @property
    def is_depthwise(self) -> bool:
        """One input channel and one output channel per group."""
        groups = self.groups.value.data
        return groups > 1 and groups == shape_of(self.weight)[0] == shape_of(self.x)[3]


@irdl_op_definition
class Conv2dOp(ConvolutionOp):
    """``activation(conv(x, weight) + bias + residual)``; bias [O], residual [N, H', W', O]."""

    name = "nn.conv2d"
    x = operand_def()
    weight = operand_def()
    bias = opt_operand_def()
    residual = opt_operand_def()
    activation = opt_prop_def(FnAttr)

    irdl_options = (AttrSizedOperandSegments(as_property=True), ParsePropInAttrDict())
    traits = traits_def(Pure())
    assembly_format = (
        "$x `,` $weight (`bias` $bias^ `:` type($bias))? "
        "(`residual` $residual^ `:` type($residual))? attr-dict "
        "`:` type($x) `,` type($weight) `->` type($result)"
    )

    def __init__(
        self,
        x: SSAValue | Operation,
        weight: SSAValue | Operation,
        bias: SSAValue | Operation | None = None,
        residual: SSAValue | Operation | None = None,
        *,
        strides: Sequence[int] = (1, 1),
        padding: Sequence[int] = (0, 0, 0, 0),
        dilations: Sequence[int] = (1, 1),
        groups: int = 1,
        activation: FnAttr | None = None,
    ) -> None:
        shape = conv2d_shape(
            shape_of(x), shape_of(weight), tuple(strides), tuple(padding), tuple(dilations), groups
        )
        super().__init__(
            operands=[x, weight, bias, residual],
            properties={
                "strides": ints(strides),
                "padding": ints(padding),
                "dilations": ints(dilations),
                "groups": integer(groups),
                "activation": activation,
            },
            result_types=[tensor_type(shape, f32)],
        )

    def infer_type(self) -> AnyTensor:
        shape = self.result_shape
        check_bias(self.name, self.bias, shape[3])
        check_residual(self.name, self.residual, shape)
        return tensor_type(shape, f32)


def linear_shape(x: Shape, w: Shape) -> Shape:
    if len(w) != 2 or not x or x[-1] != w[1]:
        raise VerifyException(f"linear: weight {w} does not fit input {x}")
    return *x[:-1], w[0]


@irdl_op_definition
class LinearOp(TensorOp):
    """``activation(x @ weight.T + bias + residual)``; x [..., K], weight [N, K], bias [N]."""

    name = "nn.linear"
    x = operand_def()
    weight = operand_def()
    bias = opt_operand_def()
    residual = opt_operand_def()
    activation = opt_prop_def(FnAttr)

    irdl_options = (AttrSizedOperandSegments(as_property=True), ParsePropInAttrDict())
    traits = traits_def(Pure())
    assembly_format = (
        "$x `,` $weight (`bias` $bias^ `:` type($bias))? "
        "(`residual` $residual^ `:` type($residual))? attr-dict "
        "`:` type($x) `,` type($weight) `->` type($result)"
    )

    def __init__(
        self,
        x: SSAValue | Operation,
        weight: SSAValue | Operation,
        bias: SSAValue | Operation | None = None,
        residual: SSAValue | Operation | None = None,
        *,
        activation: FnAttr | None = None,
    ) -> None:
        super().__init__(
            operands=[x, weight, bias, residual],
            properties={"activation": activation},
            result_types=[tensor_type(linear_shape(shape_of(x), shape_of(weight)), f32)],
        )

    def infer_type(self) -> AnyTensor:
        shape = linear_shape(shape_of(self.x), shape_of(self.weight))
        check_bias(self.name, self.bias, shape[-1])
        check_residual(self.name, self.residual, shape)
        return tensor_type(shape, f32)


Layer: TypeAlias = Conv2dOp | LinearOp
"""An op with weights."""


def matmul_shape(a: Shape, b: Shape) -> Shape:
    if len(a) < 2 or len(b) < 2 or a[-1] != b[-2]:
        raise VerifyException(f"matmul: {a} and {b} do not fit")
    return *broadcast_shapes(a[:-2], b[:-2]), a[-2], b[-1]


@irdl_op_definition
class MatmulOp(TensorOp):
    """Batched product of [..., M, K] and [..., K, N]; leading dimensions broadcast."""

    name = "nn.matmul"
    lhs = operand_def()
    rhs = operand_def()
    traits = traits_def(Pure())
    assembly_format = "$lhs `,` $rhs attr-dict `:` type($lhs) `,` type($rhs) `->` type($result)"

    def __init__(self, lhs: SSAValue | Operation, rhs: SSAValue | Operation) -> None:
        shape = matmul_shape(shape_of(lhs), shape_of(rhs))
        super().__init__(operands=[lhs, rhs], result_types=[tensor_type(shape, f32)])

    def infer_type(self) -> AnyTensor:
        if element_of(self.lhs) != f32 or element_of(self.rhs) != f32:
            raise VerifyException("nn.matmul takes float32")
        return tensor_type(matmul_shape(shape_of(self.lhs), shape_of(self.rhs)), f32)
