"""What a network in training holds of a module that only PyTorch can compute: ``opaque.call``.

The compiler's passes leave such an op alone; nothing but training gives it a meaning.
"""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects.builtin import DenseArrayBase, IntegerAttr, StringAttr, f32
from xdsl.ir import Dialect, Operation, SSAValue
from xdsl.irdl import irdl_op_definition, prop_def, traits_def, var_operand_def
from xdsl.traits import Pure
from xdsl.utils.exceptions import VerifyException

from uqfc.dialects.nn import TensorOp
from uqfc.dialects.tensors import AnyTensor, Shape, int_tuple, integer, ints, tensor_type

__all__ = ["CallOp", "Opaque"]


@irdl_op_definition
class CallOp(TensorOp):
    """One float32 result of a call of the module at the path ``callee``.

    ``call`` counts the calls of that module, ``index`` the tensors that one of them returns.
    """

    name = "opaque.call"
    inputs = var_operand_def()
    callee = prop_def(StringAttr)
    call = prop_def(IntegerAttr)
    index = prop_def(IntegerAttr)
    shape = prop_def(DenseArrayBase)
    traits = traits_def(Pure())
    assembly_format = "$callee $inputs attr-dict `:` type($inputs) `->` type($result)"

    def __init__(
        self,
        inputs: Sequence[SSAValue | Operation],
        callee: str,
        call: int,
        index: int,
        shape: Shape,
    ) -> None:
        super().__init__(
            operands=[list(inputs)],
            properties={
                "callee": StringAttr(callee),
                "call": integer(call),
                "index": integer(index),
                "shape": ints(shape),
            },
            result_types=[tensor_type(shape, f32)],
        )

    def infer_type(self) -> AnyTensor:
        if not self.inputs:
            raise VerifyException("opaque.call: no inputs")
        if min(self.call.value.data, self.index.value.data) < 0:
            raise VerifyException("opaque.call: call and index are counted from 0")
        return tensor_type(int_tuple(self.shape), f32)


Opaque = Dialect("opaque", [CallOp], [])
