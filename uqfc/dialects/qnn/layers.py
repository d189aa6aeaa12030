"""Convolution, linear and matrix products on integers."""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence

from xdsl.dialects.builtin import (
    IntegerAttr,
    UnitAttr,
    f32,
    i32,
)
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

from uqfc.dialects.nn.base import TensorOp
from uqfc.dialects.nn.layers import (
    ConvolutionOp,
    check_residual,
    conv2d_shape,
    linear_shape,
    matmul_shape,
)
from uqfc.dialects.qnn.epilogue import Epilogue, EpilogueAttr
from uqfc.dialects.tensors import (
    AnyTensor,
    element_of,
    i4,
    i8,
    i16,
    integer,
    ints,
    shape_of,
    tensor_type,
    type_of,
    ui2,
    ui4,
    ui8,
)

WEIGHT_ELEMENTS: tuple[Attribute, ...] = (i8, ui8, i4, ui4, ui2, i16)


class IntegerLayerOp(TensorOp, ABC):
    """Shared by conv2d and linear: operands, per-channel constants, epilogue."""

    x = operand_def()
    weight = operand_def()
    weight_zero_point = operand_def()
    addend = operand_def()
    multiplier = operand_def()
    residual = opt_operand_def()
    x_zero_point = prop_def(IntegerAttr)
    epilogue = prop_def(EpilogueAttr)
    replaceable = opt_prop_def(UnitAttr)
    """Compiled code is given other addends and multipliers: it relies on nothing of these."""

    irdl_options = (AttrSizedOperandSegments(as_property=True), ParsePropInAttrDict())
    traits = traits_def(Pure())
    assembly_format = (
        "$x `,` $weight `,` $weight_zero_point `,` $addend `,` $multiplier "
        "(`residual` $residual^ `:` type($residual))? attr-dict "
        "`:` type($x) `,` type($weight) `,` type($weight_zero_point) `,` type($addend) `,` "
        "type($multiplier) `->` type($result)"
    )

    def check_channels(self, channels: int, shape: tuple[int, ...]) -> None:
        if element_of(self.x) != ui8:
            raise VerifyException(f"{self.name}: activations must be ui8")
        if element_of(self.weight) not in WEIGHT_ELEMENTS:
            raise VerifyException(f"{self.name}: weights must be i8, ui8, i4, ui4, ui2 or i16")
        per_channel = {
            "weight_zero_point": (self.weight_zero_point, i32),
            "addend": (self.addend, i32),
            "multiplier": (self.multiplier, f32),
        }
        for field, (value, element) in per_channel.items():
            if type_of(value) != tensor_type((channels,), element):
                raise VerifyException(
                    f"{self.name}: {field} is {type_of(value)}, "
                    f"expected {tensor_type((channels,), element)}"
                )
        if element_of(self.result) not in (ui8, f32, i32):
            raise VerifyException(f"{self.name}: result must be ui8, f32 or i32")
        if self.residual is not None and element_of(self.residual) != ui8:
            raise VerifyException(f"{self.name}: residual must be ui8")
        check_residual(self.name, self.residual, shape)


@irdl_op_definition
class QConv2dOp(IntegerLayerOp, ConvolutionOp):
    """Integer ``nn.conv2d``; outside the image ``x`` is ``x_zero_point``. i32 result: the sum."""

    name = "qnn.conv2d"

    def __init__(
        self,
        operands: Sequence[SSAValue | Operation],
        residual: SSAValue | Operation | None,
        *,
        strides: Sequence[int],
        padding: Sequence[int],
        dilations: Sequence[int],
        groups: int,
        x_zero_point: int,
        epilogue: Epilogue,
        element: Attribute = ui8,
    ) -> None:
        """``operands`` are x, weight, weight_zero_point, addend, multiplier."""
        shape = conv2d_shape(
            shape_of(operands[0]),
            shape_of(operands[1]),
            tuple(strides),
            tuple(padding),
            tuple(dilations),
            groups,
        )
        super().__init__(
            operands=[*operands, residual],
            properties={
                "strides": ints(strides),
                "padding": ints(padding),
                "dilations": ints(dilations),
                "groups": integer(groups),
                "x_zero_point": integer(x_zero_point),
                "epilogue": EpilogueAttr(epilogue),
            },
            result_types=[tensor_type(shape, element)],
        )

    def infer_type(self) -> AnyTensor:
        shape = self.result_shape
        self.check_channels(shape[3], shape)
        return tensor_type(shape, element_of(self.result))


@irdl_op_definition
class QLinearOp(IntegerLayerOp):
    """Integer ``nn.linear``: x [..., K], weight [N, K]."""

    name = "qnn.linear"

    def __init__(
        self,
        operands: Sequence[SSAValue | Operation],
        residual: SSAValue | Operation | None,
        *,
        x_zero_point: int,
        epilogue: Epilogue,
        element: Attribute = ui8,
    ) -> None:
        """``operands`` are x, weight, weight_zero_point, addend, multiplier."""
        shape = linear_shape(shape_of(operands[0]), shape_of(operands[1]))
        super().__init__(
            operands=[*operands, residual],
            properties={
                "x_zero_point": integer(x_zero_point),
                "epilogue": EpilogueAttr(epilogue),
            },
            result_types=[tensor_type(shape, element)],
        )

    def infer_type(self) -> AnyTensor:
        shape = linear_shape(shape_of(self.x), shape_of(self.weight))
        self.check_channels(shape[-1], shape)
        return tensor_type(shape, element_of(self.result))


@irdl_op_definition
class QMatmulOp(TensorOp):
    """``sum((lhs - lhs_zero_point) * (rhs - rhs_zero_point))`` as i32; both operands are ui8."""

    name = "qnn.matmul"
    lhs = operand_def()
    rhs = operand_def()
    lhs_zero_point = prop_def(IntegerAttr)
    rhs_zero_point = prop_def(IntegerAttr)
    traits = traits_def(Pure())
    assembly_format = "$lhs `,` $rhs attr-dict `:` type($lhs) `,` type($rhs) `->` type($result)"

    def __init__(
        self,
        lhs: SSAValue | Operation,
        rhs: SSAValue | Operation,
        lhs_zero_point: int,
        rhs_zero_point: int,
    ) -> None:
        shape = matmul_shape(shape_of(lhs), shape_of(rhs))
        super().__init__(
            operands=[lhs, rhs],
            properties={
                "lhs_zero_point": integer(lhs_zero_point),
                "rhs_zero_point": integer(rhs_zero_point),
            },
            result_types=[tensor_type(shape, i32)],
        )

    def infer_type(self) -> AnyTensor:
        if element_of(self.lhs) != ui8 or element_of(self.rhs) != ui8:
            raise VerifyException("qnn.matmul takes ui8")
        return tensor_type(matmul_shape(shape_of(self.lhs), shape_of(self.rhs)), i32)
