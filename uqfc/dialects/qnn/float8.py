"""Layers and casts of 8-bit floats; ``uqfc.float8`` defines their arithmetic.

Activations and weights are ``tensor<…xf8E4M3FN>`` or ``tensor<…xf8E5M2>``, of either format each.
Codes of numbers that are not finite do not occur: ``float8.encode`` makes none, and constants are
checked where they come from.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence

from xdsl.dialects.builtin import FloatAttr, f32
from xdsl.ir import Attribute, Operation, SSAValue
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
from uqfc.dialects.nn.layers import (
    ConvolutionOp,
    check_bias,
    check_residual,
    conv2d_shape,
    linear_shape,
)
from uqfc.dialects.qnn.bounds import check_scale
from uqfc.dialects.tensors import (
    AnyTensor,
    Shape,
    element_of,
    f8_e4m3,
    f8_e5m2,
    integer,
    ints,
    real,
    shape_of,
    tensor_type,
    type_of,
)
from uqfc.float8 import E4M3, E5M2, Float8

FORMAT_OF: dict[Attribute, Float8] = {f8_e4m3: E4M3, f8_e5m2: E5M2}


def format_of(value: SSAValue | Operation) -> Float8:
    """The format of a tensor's elements; VerifyException for any others."""
    element = element_of(value)
    if element not in FORMAT_OF:
        known = " or ".join(str(e) for e in FORMAT_OF)
        raise VerifyException(f"expected elements {known}, got {element}")
    return FORMAT_OF[element]


@irdl_op_definition
class Float8QuantizeOp(TensorOp):
    """float32 → 8-bit floats of the result's format: ``float8.quantize``."""

    name = "qnn.float8_quantize"
    x = operand_def()
    scale = prop_def(FloatAttr)
    traits = traits_def(Pure())
    assembly_format = "$x attr-dict `:` type($x) `->` type($result)"

    def __init__(self, x: SSAValue | Operation, scale: float, element: Attribute) -> None:
        super().__init__(
            operands=[x],
            properties={"scale": real(scale)},
            result_types=[tensor_type(shape_of(x), element)],
        )

    def infer_type(self) -> AnyTensor:
        if element_of(self.x) != f32:
            raise VerifyException("qnn.float8_quantize takes float32")
        format_of(self.result)
        check_scale(self.name, self.scale.value.data)
        return tensor_type(shape_of(self.x), element_of(self.result))


@irdl_op_definition
class Float8DequantizeOp(TensorOp):
    """8-bit floats → float32: ``float8.dequantize``."""

    name = "qnn.float8_dequantize"
    x = operand_def()
    scale = prop_def(FloatAttr)
    traits = traits_def(Pure())
    assembly_format = "$x attr-dict `:` type($x) `->` type($result)"

    def __init__(self, x: SSAValue | Operation, scale: float) -> None:
        super().__init__(
            operands=[x],
            properties={"scale": real(scale)},
            result_types=[tensor_type(shape_of(x), f32)],
        )

    def infer_type(self) -> AnyTensor:
        format_of(self.x)
        check_scale(self.name, self.scale.value.data)
        return tensor_type(shape_of(self.x), f32)


class Float8LayerOp(TensorOp, ABC):
    """``v = activation(sum * multiplier + bias + residual)``, each operation rounded to float32.

    The sum is over products of the numbers that the codes stand for, in the order of float32
    layers; multiplier and bias [channels] and residual (of the result's shape) are float32. The
    result is ``v``, or ``float8.quantize(v, scale)`` if there is a scale.
    """

    x = operand_def()
    weight = operand_def()
    multiplier = operand_def()
    bias = opt_operand_def()
    residual = opt_operand_def()
    activation = opt_prop_def(FnAttr)
    scale = opt_prop_def(FloatAttr)

    irdl_options = (AttrSizedOperandSegments(as_property=True), ParsePropInAttrDict())
    traits = traits_def(Pure())
    assembly_format = (
        "$x `,` $weight `,` $multiplier (`bias` $bias^ `:` type($bias))? "
        "(`residual` $residual^ `:` type($residual))? attr-dict "
        "`:` type($x) `,` type($weight) `,` type($multiplier) `->` type($result)"
    )

    def check(self, shape: Shape) -> AnyTensor:
        """The result type for this shape; VerifyException says what does not fit."""
        format_of(self.x)
        format_of(self.weight)
        channels = tensor_type((shape[-1],), f32)
        if type_of(self.multiplier) != channels:
            got = type_of(self.multiplier)
            raise VerifyException(f"{self.name}: multiplier is {got}, expected {channels}")
        check_bias(self.name, self.bias, shape[-1])
        check_residual(self.name, self.residual, shape)
        for value in (self.bias, self.residual):
            if value is not None and element_of(value) != f32:
                raise VerifyException(f"{self.name}: bias and residual must be float32")
        if self.scale is None:
            return tensor_type(shape, f32)
        check_scale(self.name, self.scale.value.data)
        format_of(self.result)
        return tensor_type(shape, element_of(self.result))


@irdl_op_definition
class Float8Conv2dOp(Float8LayerOp, ConvolutionOp):
    """``nn.conv2d`` of 8-bit floats; outside the image ``x`` is 0."""

    name = "qnn.float8_conv2d"

    def __init__(
        self,
        operands: Sequence[SSAValue | Operation | None],
        *,
        strides: Sequence[int] = (1, 1),
        padding: Sequence[int] = (0, 0, 0, 0),
        dilations: Sequence[int] = (1, 1),
        groups: int = 1,
        activation: FnAttr | None = None,
        scale: float | None = None,
        element: Attribute = f32,
    ) -> None:
        """``operands`` are x, weight, multiplier, bias or None, residual or None."""
        x, weight = (SSAValue.get(v) for v in operands[:2] if v is not None)
        window = tuple(strides), tuple(padding), tuple(dilations)
        shape = conv2d_shape(shape_of(x), shape_of(weight), *window, groups)
        super().__init__(
            operands=operands,
            properties={
                "strides": ints(strides),
                "padding": ints(padding),
                "dilations": ints(dilations),
                "groups": integer(groups),
                "activation": activation,
                "scale": None if scale is None else real(scale),
            },
            result_types=[tensor_type(shape, element)],
        )

    def infer_type(self) -> AnyTensor:
        return self.check(self.result_shape)


@irdl_op_definition
class Float8LinearOp(Float8LayerOp):
    """``nn.linear`` of 8-bit floats: x [..., K], weight [N, K]."""

    name = "qnn.float8_linear"

    def __init__(
        self,
        operands: Sequence[SSAValue | Operation | None],
        *,
        activation: FnAttr | None = None,
        scale: float | None = None,
        element: Attribute = f32,
    ) -> None:
        """``operands`` are x, weight, multiplier, bias or None, residual or None."""
        x, weight = (SSAValue.get(v) for v in operands[:2] if v is not None)
        super().__init__(
            operands=operands,
            properties={
                "activation": activation,
                "scale": None if scale is None else real(scale),
            },
            result_types=[tensor_type(linear_shape(shape_of(x), shape_of(weight)), element)],
        )

    def infer_type(self) -> AnyTensor:
        return self.check(linear_shape(shape_of(self.x), shape_of(self.weight)))
