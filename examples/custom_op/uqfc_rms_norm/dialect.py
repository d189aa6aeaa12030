"""The dialect ``rms`` and its one op."""

from __future__ import annotations

from xdsl.dialects.builtin import FloatAttr, f32
from xdsl.ir import Dialect, Operation, SSAValue
from xdsl.irdl import irdl_op_definition, operand_def, prop_def, traits_def
from xdsl.traits import Pure
from xdsl.universe import Universe
from xdsl.utils.exceptions import VerifyException

from uqfc.dialects.nn import TensorOp
from uqfc.dialects.tensors import AnyTensor, element_of, real, shape_of, type_of
from uqfc.dialects.traits import ReadsWithinBounds


@irdl_op_definition
class RmsNormOp(TensorOp):
    """``x / sqrt(mean(x * x) + epsilon) * scale`` over the last axis, in float32.

    The mean is ``numerics.strided_sum`` divided by the count; every operation rounds once.
    """

    name = "rms.norm"
    x = operand_def()
    scale = operand_def()
    epsilon = prop_def(FloatAttr)
    traits = traits_def(Pure(), ReadsWithinBounds())
    assembly_format = "$x `,` $scale attr-dict `:` type($x) `,` type($scale) `->` type($result)"

    def __init__(
        self, x: SSAValue | Operation, scale: SSAValue | Operation, epsilon: float
    ) -> None:
        properties = {"epsilon": real(epsilon)}
        super().__init__(operands=[x, scale], properties=properties, result_types=[type_of(x)])

    def infer_type(self) -> AnyTensor:
        if element_of(self.x) != f32 or element_of(self.scale) != f32:
            raise VerifyException("rms.norm takes float32")
        if not shape_of(self.x) or shape_of(self.scale) != shape_of(self.x)[-1:]:
            raise VerifyException("rms.norm: scale has one element for each of the last axis")
        return type_of(self.x)


Rms = Dialect("rms", [RmsNormOp])

UNIVERSE = Universe(all_dialects={"rms": lambda: Rms})
"""What ``uqfc-opt`` finds: so it can parse and print the op."""
