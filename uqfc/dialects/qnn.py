"""The integer graph: 8-bit activations, 8- or 4-bit weights, exact int32 sums.

Activations are ``tensor<…xui8>``. Weights keep their storage type (i8, ui8, i4, ui4, i16) and a
zero point per output channel. The addend holds bias and zero-point corrections, the multiplier the
ratio of scales; both are constants of one value per output channel.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from xdsl.dialects.builtin import (
    DenseArrayBase,
    FloatAttr,
    IntegerAttr,
    f32,
    i32,
)
from xdsl.ir import Attribute, Data, Dialect, Operation, SSAValue
from xdsl.irdl import (
    AttrSizedOperandSegments,
    IRDLOperation,
    ParsePropInAttrDict,
    irdl_attr_definition,
    irdl_op_definition,
    operand_def,
    opt_operand_def,
    prop_def,
    traits_def,
)
from xdsl.parser import AttrParser
from xdsl.printer import Printer
from xdsl.traits import Pure
from xdsl.utils.exceptions import VerifyException

from uqfc.dialects.nn.base import FnAttr, TensorOp, format_float
from uqfc.dialects.nn.layers import check_residual, conv2d_shape, linear_shape, matmul_shape
from uqfc.dialects.nn.reductions import Pool2dOp, PoolWindow, pool_shape
from uqfc.dialects.tensors import (
    AnyTensor,
    broadcast_shapes,
    element_of,
    i4,
    i8,
    i16,
    int_tuple,
    integer,
    ints,
    real,
    shape_of,
    tensor_type,
    type_of,
    ui4,
    ui8,
)
from uqfc.numerics import ACTIVATIONS, Activation

WEIGHT_ELEMENTS: tuple[Attribute, ...] = (i8, ui8, i4, ui4, i16)


@dataclass(frozen=True)
class Epilogue:
    """What happens to the int32 sum (see ``numerics``; ``v`` is float32).

    ``v = f32(acc) * m [+ f32(residual - residual_zero_point) * residual_multiplier]``, then
    - without activation: ``zero_point + rne(clamp(v, qmin - zero_point, qmax - zero_point))``;
    - with: the same of ``activation(v) * reciprocal``;
    - float32 result: ``v``, or ``activation(v)``; the other fields are unused.
    """

    zero_point: int = 0
    qmin: int = 0
    qmax: int = 255
    activation: Activation | None = None
    reciprocal: float = 1.0
    residual_zero_point: int = 0
    residual_multiplier: float = 1.0


@irdl_attr_definition
class EpilogueAttr(Data[Epilogue]):
    """``#qnn.epilogue<zero_point, qmin:qmax, residual_zp:multiplier, reciprocal, #nn.fn<…>>``."""

    name = "qnn.epilogue"

    @classmethod
    def parse_parameter(cls, parser: AttrParser) -> Epilogue:
        with parser.in_angle_brackets():
            zero_point = parser.parse_integer(allow_boolean=False)
            parser.parse_punctuation(",")
            qmin = parser.parse_integer(allow_boolean=False)
            parser.parse_punctuation(":")
            qmax = parser.parse_integer(allow_boolean=False)
            parser.parse_punctuation(",")
            residual_zero = parser.parse_integer(allow_boolean=False)
            parser.parse_punctuation(":")
            residual_multiplier = float(parser.parse_number(allow_boolean=False))
            parser.parse_punctuation(",")
            reciprocal = float(parser.parse_number(allow_boolean=False))
            activation = None
            if parser.parse_optional_punctuation(","):
                attribute = parser.parse_attribute()
                if not isinstance(attribute, FnAttr):
                    parser.raise_error("expected #nn.fn<…>")
                activation = attribute.data
        return Epilogue(
            zero_point, qmin, qmax, activation, reciprocal, residual_zero, residual_multiplier
        )

    def print_parameter(self, printer: Printer) -> None:
        e = self.data
        with printer.in_angle_brackets():
            printer.print_string(
                f"{e.zero_point}, {e.qmin}:{e.qmax}, {e.residual_zero_point}:"
                f"{format_float(e.residual_multiplier)}, {format_float(e.reciprocal)}"
            )
            if e.activation is not None:
                printer.print_string(", ")
                printer.print_attribute(FnAttr(e.activation))

    def verify(self) -> None:
        e = self.data
        if not 0 <= e.qmin <= e.zero_point <= e.qmax <= 255:
            raise VerifyException("epilogue: 0 <= qmin <= zero_point <= qmax <= 255 does not hold")
        if not 0 <= e.residual_zero_point <= 255:
            raise VerifyException("epilogue: residual zero point is outside 0:255")
        for value in (e.reciprocal, e.residual_multiplier):
            if not np.isfinite(value) or float(np.float32(value)) != value:
                raise VerifyException("epilogue: factors must be finite float32 values")
        if e.activation is not None and e.activation.name not in ACTIVATIONS:
            known = ", ".join(ACTIVATIONS)
            raise VerifyException(f"epilogue: activation must be one of {known}")


@irdl_op_definition
class QuantizeOp(TensorOp):
    """float32 → ui8: ``numerics.quantize`` with range [qmin, qmax]."""

    name = "qnn.quantize"
    x = operand_def()
    scale = prop_def(FloatAttr)
    zero_point = prop_def(IntegerAttr)
    qmin = prop_def(IntegerAttr)
    qmax = prop_def(IntegerAttr)
    traits = traits_def(Pure())
    assembly_format = "$x attr-dict `:` type($x) `->` type($result)"

    def __init__(
        self,
        x: SSAValue | Operation,
        scale: float,
        zero_point: int,
        qmin: int = 0,
        qmax: int = 255,
    ) -> None:
        super().__init__(
            operands=[x],
            properties={
                "scale": real(scale),
                "zero_point": integer(zero_point),
                "qmin": integer(qmin),
                "qmax": integer(qmax),
            },
            result_types=[tensor_type(shape_of(x), ui8)],
        )

    def infer_type(self) -> AnyTensor:
        if element_of(self.x) != f32:
            raise VerifyException("qnn.quantize takes float32")
        return tensor_type(shape_of(self.x), ui8)


@irdl_op_definition
class DequantizeOp(TensorOp):
    """ui8 or i32 → float32: ``numerics.dequantize``."""

    name = "qnn.dequantize"
    x = operand_def()
    scale = prop_def(FloatAttr)
    zero_point = prop_def(IntegerAttr)
    traits = traits_def(Pure())
    assembly_format = "$x attr-dict `:` type($x) `->` type($result)"

    def __init__(self, x: SSAValue | Operation, scale: float, zero_point: int) -> None:
        super().__init__(
            operands=[x],
            properties={"scale": real(scale), "zero_point": integer(zero_point)},
            result_types=[tensor_type(shape_of(x), f32)],
        )

    def infer_type(self) -> AnyTensor:
        if element_of(self.x) not in (ui8, i32):
            raise VerifyException("qnn.dequantize takes ui8 or i32")
        return tensor_type(shape_of(self.x), f32)


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
            raise VerifyException(f"{self.name}: weights must be i8, ui8, i4, ui4 or i16")
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
class QConv2dOp(IntegerLayerOp):
    """Integer ``nn.conv2d``; outside the image ``x`` is ``x_zero_point``. i32 result: the sum."""

    name = "qnn.conv2d"
    strides = prop_def(DenseArrayBase)
    padding = prop_def(DenseArrayBase)
    dilations = prop_def(DenseArrayBase)
    groups = prop_def(IntegerAttr)

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
        shape = conv2d_shape(
            shape_of(self.x),
            shape_of(self.weight),
            int_tuple(self.strides),
            int_tuple(self.padding),
            int_tuple(self.dilations),
            self.groups.value.data,
        )
        self.check_channels(shape[3], shape)
        return tensor_type(shape, element_of(self.result))

    @property
    def is_depthwise(self) -> bool:
        """One input channel and one output channel per group."""
        groups = self.groups.value.data
        return groups > 1 and groups == shape_of(self.weight)[0] == shape_of(self.x)[3]


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


class QBinaryOp(TensorOp, ABC):
    """An elementwise op on two ui8 tensors that broadcast."""

    lhs = operand_def()
    rhs = operand_def()
    lhs_zero_point = prop_def(IntegerAttr)
    rhs_zero_point = prop_def(IntegerAttr)
    zero_point = prop_def(IntegerAttr)
    qmin = prop_def(IntegerAttr)
    qmax = prop_def(IntegerAttr)
    traits = traits_def(Pure())
    assembly_format = "$lhs `,` $rhs attr-dict `:` type($lhs) `,` type($rhs) `->` type($result)"

    def __init__(
        self,
        lhs: SSAValue | Operation,
        rhs: SSAValue | Operation,
        zero_points: tuple[int, int, int],
        bounds: tuple[int, int],
        factors: dict[str, float],
    ) -> None:
        """``zero_points`` are of lhs, rhs and result; ``bounds`` qmin, qmax."""
        shape = broadcast_shapes(shape_of(lhs), shape_of(rhs))
        names = ("lhs_zero_point", "rhs_zero_point", "zero_point", "qmin", "qmax")
        numbers = {n: integer(v) for n, v in zip(names, (*zero_points, *bounds), strict=True)}
        super().__init__(
            operands=[lhs, rhs],
            properties={**numbers, **{k: real(v) for k, v in factors.items()}},
            result_types=[tensor_type(shape, ui8)],
        )

    def infer_type(self) -> AnyTensor:
        if element_of(self.lhs) != ui8 or element_of(self.rhs) != ui8:
            raise VerifyException(f"{self.name} takes ui8")
        low, high = self.qmin.value.data, self.qmax.value.data
        if not 0 <= low <= self.zero_point.value.data <= high <= 255:
            raise VerifyException(f"{self.name}: 0 <= qmin <= zero_point <= qmax <= 255 fails")
        return tensor_type(broadcast_shapes(shape_of(self.lhs), shape_of(self.rhs)), ui8)


@irdl_op_definition
class QAddOp(QBinaryOp):
    """``numerics.add_quantized``."""

    name = "qnn.add"
    lhs_multiplier = prop_def(FloatAttr)
    rhs_multiplier = prop_def(FloatAttr)


@irdl_op_definition
class QMulOp(QBinaryOp):
    """``numerics.mul_quantized``."""

    name = "qnn.mul"
    multiplier = prop_def(FloatAttr)


@irdl_op_definition
class QAvgPool2dOp(Pool2dOp):
    """``zp + rne(clamp(f32(sum of x - x_zero_point inside the image) * multipliers[n - 1], …))``.

    ``n`` counts the window's elements inside the image. One multiplier: it serves every n.
    """

    name = "qnn.avg_pool2d"
    x = operand_def()
    multipliers = operand_def()
    x_zero_point = prop_def(IntegerAttr)
    zero_point = prop_def(IntegerAttr)
    qmin = prop_def(IntegerAttr)
    qmax = prop_def(IntegerAttr)
    assembly_format = (
        "$x `,` $multipliers attr-dict `:` type($x) `,` type($multipliers) `->` type($result)"
    )

    def __init__(
        self,
        x: SSAValue | Operation,
        multipliers: SSAValue | Operation,
        window: PoolWindow,
        *,
        x_zero_point: int,
        zero_point: int,
        qmin: int = 0,
        qmax: int = 255,
    ) -> None:
        shape = pool_shape(shape_of(x), *window)
        numbers = {
            "x_zero_point": x_zero_point,
            "zero_point": zero_point,
            "qmin": qmin,
            "qmax": qmax,
        }
        names = ("kernel", "strides", "padding", "dilations")
        IRDLOperation.__init__(
            self,
            operands=[x, multipliers],
            properties={
                **{k: ints(v) for k, v in zip(names, window, strict=True)},
                **{k: integer(v) for k, v in numbers.items()},
            },
            result_types=[tensor_type(shape, ui8)],
        )

    def infer_type(self) -> AnyTensor:
        if element_of(self.x) != ui8:
            raise VerifyException("qnn.avg_pool2d takes ui8")
        kernel = int_tuple(self.kernel)
        if shape_of(self.multipliers) not in ((1,), (kernel[0] * kernel[1],)):
            raise VerifyException("qnn.avg_pool2d: one multiplier, or one per count of elements")
        return super().infer_type()


@irdl_op_definition
class LookupOp(TensorOp):
    """``table[x]`` for ui8 ``x`` and a table of 256 ui8 values."""

    name = "qnn.lookup"
    x = operand_def()
    table = operand_def()
    traits = traits_def(Pure())
    assembly_format = "$x `,` $table attr-dict `:` type($x) `,` type($table) `->` type($result)"

    def __init__(self, x: SSAValue | Operation, table: SSAValue | Operation) -> None:
        super().__init__(operands=[x, table], result_types=[tensor_type(shape_of(x), ui8)])

    def infer_type(self) -> AnyTensor:
        if element_of(self.x) != ui8 or type_of(self.table) != tensor_type((256,), ui8):
            raise VerifyException("qnn.lookup takes ui8 and a table of 256 ui8")
        return tensor_type(shape_of(self.x), ui8)


Qnn = Dialect(
    "qnn",
    [
        DequantizeOp,
        LookupOp,
        QAddOp,
        QAvgPool2dOp,
        QConv2dOp,
        QLinearOp,
        QMatmulOp,
        QMulOp,
        QuantizeOp,
    ],
    [EpilogueAttr],
)
