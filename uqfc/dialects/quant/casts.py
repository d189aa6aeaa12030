"""The casts that place quantize points."""

from __future__ import annotations

from xdsl.dialects.builtin import StringAttr, TensorType, f32
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.irdl import (
    irdl_op_definition,
    operand_def,
    prop_def,
    traits_def,
)
from xdsl.traits import Pure
from xdsl.utils.exceptions import VerifyException

from uqfc.dialects.nn.base import TensorOp
from uqfc.dialects.quant.types import (
    STORAGE_ELEMENTS,
    QuantParams,
    UniformType,
    check_fits,
    uniform_of,
)
from uqfc.dialects.tensors import (
    AnyTensor,
    element_of,
    shape_of,
    tensor_type,
)


@irdl_op_definition
class QcastOp(TensorOp):
    """float32 → quantized: ``numerics.quantize``, or ``float8.quantize``."""

    name = "quant.qcast"
    x = operand_def()
    traits = traits_def(Pure())
    assembly_format = "$x attr-dict `:` type($x) `->` type($result)"

    def __init__(self, x: SSAValue | Operation, params: QuantParams) -> None:
        super().__init__(operands=[x], result_types=[tensor_type(shape_of(x), UniformType(params))])

    def infer_type(self) -> AnyTensor:
        if element_of(self.x) != f32:
            raise VerifyException("quant.qcast takes float32")
        params = uniform_of(self.result)
        check_fits(params, shape_of(self.x))
        return tensor_type(shape_of(self.x), UniformType(params))


@irdl_op_definition
class DcastOp(TensorOp):
    """quantized → float32: ``numerics.dequantize``, or ``float8.dequantize``."""

    name = "quant.dcast"
    x = operand_def()
    traits = traits_def(Pure())
    assembly_format = "$x attr-dict `:` type($x) `->` type($result)"

    def __init__(self, x: SSAValue | Operation) -> None:
        super().__init__(operands=[x], result_types=[tensor_type(shape_of(x), f32)])

    def infer_type(self) -> AnyTensor:
        check_fits(uniform_of(self.x), shape_of(self.x))
        return tensor_type(shape_of(self.x), f32)


@irdl_op_definition
class ScastOp(TensorOp):
    """Reads storage integers (codes) as quantized values or the reverse; no bits change."""

    name = "quant.scast"
    x = operand_def()
    traits = traits_def(Pure())
    assembly_format = "$x attr-dict `:` type($x) `->` type($result)"

    def __init__(self, x: SSAValue | Operation, element: Attribute) -> None:
        super().__init__(operands=[x], result_types=[tensor_type(shape_of(x), element)])

    def infer_type(self) -> AnyTensor:
        source, target = element_of(self.x), element_of(self.result)
        quantized, storage = (
            (source, target) if isinstance(source, UniformType) else (target, source)
        )
        if not isinstance(quantized, UniformType):
            raise VerifyException("quant.scast: neither side is quantized")
        if STORAGE_ELEMENTS.get(quantized.data.storage, storage) != storage:
            raise VerifyException(
                f"quant.scast: storage is {storage}, expected "
                f"{STORAGE_ELEMENTS[quantized.data.storage]}"
            )
        check_fits(quantized.data, shape_of(self.x))
        return tensor_type(shape_of(self.x), target)


@irdl_op_definition
class ObserveOp(TensorOp):
    """Identity on float32 that marks a quantize point whose range calibration will find."""

    name = "quant.observe"
    x = operand_def()
    point = prop_def(StringAttr)
    traits = traits_def()
    assembly_format = "$x attr-dict `:` type($x) `->` type($result)"

    def __init__(self, x: SSAValue | Operation, point: str) -> None:
        super().__init__(
            operands=[x],
            properties={"point": StringAttr(point)},
            result_types=[tensor_type(shape_of(x), f32)],
        )

    def infer_type(self) -> AnyTensor:
        if element_of(self.x) != f32:
            raise VerifyException("quant.observe takes float32")
        return TensorType(f32, list(shape_of(self.x)))
