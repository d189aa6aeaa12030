"""Elementwise ops and average pooling on ui8."""

from __future__ import annotations

from abc import ABC

from xdsl.dialects.builtin import (
    FloatAttr,
    IntegerAttr,
)
from xdsl.ir import Operation, SSAValue
from xdsl.irdl import (
    IRDLOperation,
    irdl_op_definition,
    operand_def,
    prop_def,
    traits_def,
)
from xdsl.traits import Pure
from xdsl.utils.exceptions import VerifyException

from uqfc.dialects.nn.base import TensorOp
from uqfc.dialects.nn.reductions import Pool2dOp, PoolWindow, pool_shape
from uqfc.dialects.qnn.bounds import check_bounds, check_zero_point
from uqfc.dialects.tensors import (
    AnyTensor,
    broadcast_shapes,
    element_of,
    int_tuple,
    integer,
    ints,
    real,
    shape_of,
    tensor_type,
    ui8,
)


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
        check_zero_point(self.name, self.lhs_zero_point.value.data)
        check_zero_point(self.name, self.rhs_zero_point.value.data)
        check_bounds(
            self.name, self.zero_point.value.data, self.qmin.value.data, self.qmax.value.data
        )
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
        check_zero_point(self.name, self.x_zero_point.value.data)
        check_bounds(
            self.name, self.zero_point.value.data, self.qmin.value.data, self.qmax.value.data
        )
        return super().infer_type()
