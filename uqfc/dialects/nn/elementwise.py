"""Elementwise ops. Operands of binary and ternary ops broadcast as in NumPy."""

from __future__ import annotations

from abc import ABC

from xdsl.dialects.builtin import StringAttr, f32, i1
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.irdl import irdl_op_definition, operand_def, opt_prop_def, prop_def, traits_def
from xdsl.traits import Pure
from xdsl.utils.exceptions import VerifyException

from uqfc.dialects.nn.base import FnAttr, TensorOp
from uqfc.dialects.tensors import (
    AnyTensor,
    broadcast_shapes,
    element_of,
    shape_of,
    tensor_type,
    type_of,
)


@irdl_op_definition
class UnaryOp(TensorOp):
    """``result = fn(x)``, e.g. ``nn.unary %x {fn = #nn.fn<clip, 0.0, 6.0>}``."""

    name = "nn.unary"
    x = operand_def()
    fn = prop_def(FnAttr)
    traits = traits_def(Pure())
    assembly_format = "$x attr-dict `:` type($x) `->` type($result)"

    def __init__(self, x: SSAValue | Operation, fn: FnAttr) -> None:
        super().__init__(operands=[x], properties={"fn": fn}, result_types=[type_of(x)])

    def infer_type(self) -> AnyTensor:
        if element_of(self.x) != f32:
            raise VerifyException("nn.unary takes float32")
        return type_of(self.x)


class BinaryOp(TensorOp, ABC):
    """``result = op(lhs, rhs)``; both have the same element type."""

    lhs = operand_def()
    rhs = operand_def()
    traits = traits_def(Pure())
    assembly_format = "$lhs `,` $rhs attr-dict `:` type($lhs) `,` type($rhs) `->` type($result)"

    def __init__(self, lhs: SSAValue | Operation, rhs: SSAValue | Operation) -> None:
        shape = broadcast_shapes(shape_of(lhs), shape_of(rhs))
        super().__init__(operands=[lhs, rhs], result_types=[tensor_type(shape, self._element(lhs))])

    def _element(self, lhs: SSAValue | Operation) -> Attribute:
        return element_of(lhs)

    def infer_type(self) -> AnyTensor:
        if element_of(self.lhs) != element_of(self.rhs):
            raise VerifyException(f"{self.name}: operands have different element types")
        shape = broadcast_shapes(shape_of(self.lhs), shape_of(self.rhs))
        return tensor_type(shape, self._element(self.lhs))


class FusableBinaryOp(BinaryOp, ABC):
    """A binary op that a following activation can be fused into."""

    activation = opt_prop_def(FnAttr)


@irdl_op_definition
class AddOp(FusableBinaryOp):
    name = "nn.add"


@irdl_op_definition
class SubOp(BinaryOp):
    name = "nn.sub"


@irdl_op_definition
class MulOp(FusableBinaryOp):
    name = "nn.mul"


@irdl_op_definition
class DivOp(BinaryOp):
    """float32: IEEE division; integers: truncation towards zero, x / 0 = 0."""

    name = "nn.div"


@irdl_op_definition
class MaximumOp(BinaryOp):
    """``rhs if rhs > lhs else lhs``."""

    name = "nn.maximum"


@irdl_op_definition
class MinimumOp(BinaryOp):
    """``rhs if rhs < lhs else lhs``."""

    name = "nn.minimum"


@irdl_op_definition
class PowOp(BinaryOp):
    name = "nn.pow"


PREDICATES = ("eq", "ne", "lt", "le", "gt", "ge")


@irdl_op_definition
class CompareOp(BinaryOp):
    """Elementwise comparison giving i1; ``predicate`` is one of ``PREDICATES``."""

    name = "nn.compare"
    predicate = prop_def(StringAttr)

    def __init__(
        self, lhs: SSAValue | Operation, rhs: SSAValue | Operation, predicate: str
    ) -> None:
        super().__init__(lhs, rhs)
        self.properties["predicate"] = StringAttr(predicate)

    def _element(self, lhs: SSAValue | Operation) -> Attribute:
        return i1

    def infer_type(self) -> AnyTensor:
        if self.predicate.data not in PREDICATES:
            raise VerifyException(
                f"unknown predicate '{self.predicate.data}'; known: {', '.join(PREDICATES)}"
            )
        return super().infer_type()


@irdl_op_definition
class SelectOp(TensorOp):
    """``then if condition else other`` per element; ``condition`` is i1; all three broadcast."""

    name = "nn.select"
    condition = operand_def()
    then = operand_def()
    other = operand_def()
    traits = traits_def(Pure())
    assembly_format = (
        "$condition `,` $then `,` $other attr-dict `:` "
        "type($condition) `,` type($then) `,` type($other) `->` type($result)"
    )

    def __init__(
        self,
        condition: SSAValue | Operation,
        then: SSAValue | Operation,
        other: SSAValue | Operation,
    ) -> None:
        shape = broadcast_shapes(shape_of(condition), shape_of(then), shape_of(other))
        super().__init__(
            operands=[condition, then, other],
            result_types=[tensor_type(shape, element_of(then))],
        )

    def infer_type(self) -> AnyTensor:
        if element_of(self.condition) != i1:
            raise VerifyException("nn.select: the condition must be i1")
        if element_of(self.then) != element_of(self.other):
            raise VerifyException("nn.select: the branches have different element types")
        shape = broadcast_shapes(
            shape_of(self.condition), shape_of(self.then), shape_of(self.other)
        )
        return tensor_type(shape, element_of(self.then))
