"""Constants."""

from __future__ import annotations

from xdsl.dialects.builtin import DenseIntOrFPElementsAttr
from xdsl.ir import Attribute
from xdsl.irdl import irdl_op_definition, prop_def, traits_def
from xdsl.traits import ConstantLike, Pure

from uqfc.dialects.nn.base import TensorOp
from uqfc.dialects.tensors import AnyTensor, Array, dense, dense_array, tensor_type


@irdl_op_definition
class ConstantOp(TensorOp):
    """A constant tensor."""

    name = "nn.constant"
    value = prop_def(DenseIntOrFPElementsAttr)
    traits = traits_def(Pure(), ConstantLike())
    assembly_format = "attr-dict `:` type($result)"

    def __init__(self, value: Array, element: Attribute | None = None) -> None:
        attribute = dense(value, element)
        super().__init__(
            properties={"value": attribute},
            result_types=[tensor_type(value.shape, attribute.get_element_type())],
        )

    def infer_type(self) -> AnyTensor:
        return tensor_type(self.value.get_shape(), self.value.get_element_type())

    @property
    def array(self) -> Array:
        """The value, read-only."""
        return dense_array(self.value)
