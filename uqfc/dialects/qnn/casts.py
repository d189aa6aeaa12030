"""Between float32 and ui8, and from ui8 to ui8 by table."""

from __future__ import annotations

from xdsl.dialects.builtin import (
    FloatAttr,
    IntegerAttr,
    f32,
    i32,
)
from xdsl.ir import Operation, SSAValue
from xdsl.irdl import (
    irdl_op_definition,
    operand_def,
    prop_def,
    traits_def,
)
from xdsl.traits import Pure
from xdsl.utils.exceptions import VerifyException

from uqfc.dialects.nn.base import TensorOp
from uqfc.dialects.qnn.bounds import check_bounds, check_scale
from uqfc.dialects.tensors import (
    AnyTensor,
    element_of,
    integer,
    real,
    shape_of,
    tensor_type,
    type_of,
    ui8,
)


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
        check_scale(self.name, self.scale.value.data)
        check_bounds(
            self.name, self.zero_point.value.data, self.qmin.value.data, self.qmax.value.data
        )
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
        check_scale(self.name, self.scale.value.data)
        return tensor_type(shape_of(self.x), f32)


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
