"""The memory that kernels work in: one arena, and the buffers that are views of it."""

from __future__ import annotations

from math import prod

from xdsl.dialects.builtin import IntegerAttr, MemRefType, NoneAttr, StridedLayoutAttr
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

from uqfc.dialects.layouts import row_strides
from uqfc.dialects.qkernel.launch import as_tensor
from uqfc.dialects.tensors import Shape, integer, numpy_dtype, ui8

ALIGNMENT = 64
"""Bytes; of the arena and of every buffer in it, but not of the parts of one."""


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
    """A tensor at ``offset`` bytes from the start of the arena, or of a result that it is a part
    of; its rows follow each other, or elements of others are between them."""

    name = "qkernel.view"
    arena = operand_def(MemRefType)
    offset = prop_def(IntegerAttr)
    result = result_def(MemRefType)
    traits = traits_def(Pure())
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "$arena attr-dict `:` type($arena) `->` type($result)"

    def __init__(
        self,
        arena: SSAValue | Operation,
        offset: int,
        shape: Shape,
        element: Attribute,
        pitch: int = 0,
    ) -> None:
        layout = StridedLayoutAttr(row_strides(shape, pitch)) if pitch else NoneAttr()
        super().__init__(
            operands=[arena],
            properties={"offset": integer(offset)},
            result_types=[MemRefType(element, list(shape), layout)],
        )

    @property
    def end(self) -> int:
        """Offset in bytes of the first byte after the last element."""
        kind = self.result.type
        strides = [stride or 0 for stride in kind.get_strides() or ()]
        last = sum((n - 1) * s for n, s in zip(kind.get_shape(), strides, strict=True))
        elements = last + 1 if memref_bytes(kind) else 0
        return self.offset.value.data + elements * numpy_dtype(kind.get_element_type()).itemsize

    def verify_(self) -> None:
        if self.offset.value.data < 0 or self.end > memref_bytes(self.arena.type):
            raise VerifyException("qkernel.view reaches outside the arena")
        width = numpy_dtype(self.result.type.get_element_type()).itemsize
        if self.offset.value.data % width:
            raise VerifyException(f"qkernel.view: offset is not a multiple of {width}")
