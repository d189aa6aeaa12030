"""The memory that kernels work in: one arena, and the buffers that are views of it."""

from __future__ import annotations

from math import prod

from xdsl.dialects.builtin import IntegerAttr, MemRefType
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.irdl import (
    IRDLOperation,
    ParsePropInAttrDict,
    irdl_op_definition,
    operand_def,
    prop_def,
    result_def,
    traits_def,
)
from xdsl.traits import Pure
from xdsl.utils.exceptions import VerifyException

from uqfc.dialects.qkernel.launch import as_tensor
from uqfc.dialects.tensors import Shape, integer, numpy_dtype, ui8

ALIGNMENT = 64
"""Bytes; of the arena and of every buffer in it."""


def memref_bytes(kind: Attribute) -> int:
    """Bytes of a dense memref or tensor."""
    ranked = as_tensor(kind)
    return prod(ranked.get_shape()) * numpy_dtype(ranked.get_element_type()).itemsize


@irdl_op_definition
class ArenaOp(IRDLOperation):
    """The caller's scratch memory, aligned to ``ALIGNMENT`` bytes."""

    name = "qkernel.arena"
    result = result_def(MemRefType)
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "attr-dict `:` type($result)"

    def __init__(self, size: int) -> None:
        super().__init__(result_types=[MemRefType(ui8, [size])])

    @property
    def size(self) -> int:
        return memref_bytes(self.result.type)


@irdl_op_definition
class ViewOp(IRDLOperation):
    """A dense buffer at ``offset`` bytes from the start of the arena."""

    name = "qkernel.view"
    arena = operand_def(MemRefType)
    offset = prop_def(IntegerAttr)
    result = result_def(MemRefType)
    traits = traits_def(Pure())
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "$arena attr-dict `:` type($arena) `->` type($result)"

    def __init__(
        self, arena: SSAValue | Operation, offset: int, shape: Shape, element: Attribute
    ) -> None:
        super().__init__(
            operands=[arena],
            properties={"offset": integer(offset)},
            result_types=[MemRefType(element, list(shape))],
        )

    def verify_(self) -> None:
        end = self.offset.value.data + memref_bytes(self.result.type)
        if self.offset.value.data < 0 or end > memref_bytes(self.arena.type):
            raise VerifyException("qkernel.view reaches outside the arena")
        if self.offset.value.data % ALIGNMENT:
            raise VerifyException(f"qkernel.view: offset is not a multiple of {ALIGNMENT}")
