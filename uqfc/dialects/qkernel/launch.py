"""Launches of kernels, whose bodies say what the kernels compute."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import cast

from xdsl.dialects.builtin import (
    DenseArrayBase,
    IntegerAttr,
    MemRefType,
    StringAttr,
    TensorType,
    UnitAttr,
)
from xdsl.ir import Attribute, Block, BlockArgument, Operation, Region, SSAValue
from xdsl.irdl import (
    AttrSizedOperandSegments,
    IRDLOperation,
    ParsePropInAttrDict,
    irdl_op_definition,
    operand_def,
    opt_prop_def,
    region_def,
    traits_def,
    var_operand_def,
    var_result_def,
)
from xdsl.traits import IsTerminator
from xdsl.utils.exceptions import VerifyException

from uqfc.dialects.layouts import row_strides
from uqfc.dialects.nn.base import values
from uqfc.dialects.qkernel.packing import UnpackOp
from uqfc.dialects.tensors import AnyTensor, Shape, int_tuple, tensor_type

CHOOSERS = ("model", "measured")
SELECTED = ("kernel", "scratch_bytes", "split", "scratch", "chosen_by", "pitches", "in_place")
"""Properties of launches that passes decide on."""


@irdl_op_definition
class YieldOp(IRDLOperation):
    """Ends a launch's body with the value that the kernel gives."""

    name = "qkernel.yield"
    value = operand_def()
    traits = traits_def(IsTerminator())
    assembly_format = "$value attr-dict `:` type($value)"

    def __init__(self, value: SSAValue | Operation) -> None:
        super().__init__(operands=[value])


def as_tensor(kind: Attribute) -> AnyTensor:
    """The tensor type that a launch's body sees for an operand type; VerifyException otherwise."""
    if isinstance(kind, MemRefType | TensorType):
        ranked = cast(AnyTensor, kind)
        return tensor_type(ranked.get_shape(), ranked.get_element_type())
    raise VerifyException(f"a kernel takes tensors and memrefs, not {kind}")


@irdl_op_definition
class LaunchOp(IRDLOperation):
    """Runs a kernel; ``kernel`` is the name of the compiled function once it is selected."""

    name = "qkernel.launch"
    inputs = var_operand_def()
    into = var_operand_def()
    outputs = var_result_def()
    kernel = opt_prop_def(StringAttr)
    scratch_bytes = opt_prop_def(IntegerAttr)
    """Size of the scratch buffer that the kernel needs."""
    split = opt_prop_def(UnitAttr)
    """All parts of a run share the work, each with its own scratch memory; else one does it."""
    scratch = opt_prop_def(IntegerAttr)
    """Byte offset of the scratch buffer in the arena."""
    chosen_by = opt_prop_def(StringAttr)
    """How the kernel was chosen among several: ``model`` or ``measured``."""
    pitches = opt_prop_def(DenseArrayBase)
    """Elements from row to row of each operand, then of the result; 0, or no such property: rows
    follow each other."""
    in_place = opt_prop_def(DenseArrayBase)
    """Inputs of a concatenation that are parts of the result's memory, and need no copy; of a
    slice, [0]: the result is a part of its operand's."""
    body = region_def("single_block")

    irdl_options = (AttrSizedOperandSegments(as_property=True), ParsePropInAttrDict())
    assembly_format = (
        "($inputs^ `:` type($inputs))? (`into` $into^ `:` type($into))? "
        "(`->` type($outputs)^)? $body attr-dict"
    )

    def __init__(
        self,
        inputs: Sequence[SSAValue | Operation],
        body: Region,
        *,
        into: SSAValue | Operation | None = None,
    ) -> None:
        result = [] if into is not None else [yielded(body).type]
        super().__init__(
            operands=[values(inputs), [] if into is None else [into]],
            result_types=[result],
            regions=[body],
        )

    def verify_(self) -> None:
        if len(self.into) + len(self.outputs) != 1:
            raise VerifyException("qkernel.launch has one result or one `into` operand")
        block = self.body.block
        expected = [as_tensor(v.type) for v in self.inputs]
        if [a.type for a in block.args] != expected:
            raise VerifyException("qkernel.launch: block arguments do not match the operands")
        last = block.last_op
        if not isinstance(last, YieldOp):
            raise VerifyException("qkernel.launch: the body must end with qkernel.yield")
        target = self.into[0].type if self.into else self.outputs[0].type
        if as_tensor(target) != last.value.type:
            raise VerifyException(f"qkernel.launch yields {last.value.type}, expected {target}")
        if self.chosen_by is not None and self.chosen_by.data not in CHOOSERS:
            known = ", ".join(CHOOSERS)
            raise VerifyException(f"qkernel.launch: chosen_by must be one of {known}")
        places = [*self.inputs, *self.outputs, *self.into]
        if self.pitches is not None and len(int_tuple(self.pitches)) != len(places):
            raise VerifyException("qkernel.launch: pitches are one for each operand and the result")
        for index, value in enumerate(places):
            self._verify_rows(index, value)

    def _verify_rows(self, index: int, value: SSAValue) -> None:
        """Rows may not overlap; those of memory are as far apart as its type says."""
        shape, pitch = tuple(as_tensor(value.type).get_shape()), self.pitch(index)
        if pitch and pitch < prod(shape[-1:]):
            raise VerifyException(f"qkernel.launch: rows of {shape} are only {pitch} apart")
        kind: Attribute = value.type
        if isinstance(kind, MemRefType):
            strides = cast(MemRefType[Attribute], kind).get_strides()
            if strides is None or tuple(strides) != row_strides(shape, pitch):
                raise VerifyException(f"qkernel.launch: {kind} is not of rows {pitch} apart")

    def pitch(self, index: int) -> int:
        """Of an operand, or of the result (-1), as in ``pitches``."""
        return 0 if self.pitches is None else int_tuple(self.pitches)[index]

    def operand_of(self, value: SSAValue) -> SSAValue:
        """What an argument of the body stands for."""
        assert isinstance(value, BlockArgument)
        return self.inputs[value.index]

    @property
    def parts_in_place(self) -> Shape:
        """``in_place``, or nothing."""
        return () if self.in_place is None else int_tuple(self.in_place)

    @property
    def kernel_name(self) -> str:
        """The selected kernel, or the empty string."""
        return "" if self.kernel is None else self.kernel.data

    def copy_selection(self, other: LaunchOp) -> None:
        """Take over what was decided for another launch: its kernel and its memory."""
        for key in SELECTED:
            if key in other.properties:
                self.properties[key] = other.properties[key]

    @property
    def block(self) -> Block:
        return self.body.block

    @property
    def meaning(self) -> list[Operation]:
        """The body's ops without unpacking and terminator, in order."""
        return [op for op in self.block.ops if not isinstance(op, UnpackOp | YieldOp)]


def yielded(body: Region) -> SSAValue:
    last = body.block.last_op
    if not isinstance(last, YieldOp):
        raise VerifyException("qkernel.launch: the body must end with qkernel.yield")
    return last.value
