"""Kernels: which compiled function runs, on packed weights, at which place of the arena.

A ``qkernel.launch`` runs one kernel. Its body *is the meaning*: ordinary ``nn``/``qnn`` ops on
tensors that say what the kernel computes, so the interpreter needs to know nothing of kernels.
Packed constants are decoded in the body by ``qkernel.unpack``. Before the memory plan a launch
gives tensors; after it, operands are ``memref`` views of one arena and the result is written into
the ``into`` operand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal, TypeAlias, cast

from xdsl.dialects.builtin import IntegerAttr, MemRefType, StringAttr, TensorType, UnitAttr, i32
from xdsl.ir import Attribute, Block, Data, Dialect, Operation, Region, SSAValue
from xdsl.irdl import (
    AttrSizedOperandSegments,
    IRDLOperation,
    ParsePropInAttrDict,
    irdl_attr_definition,
    irdl_op_definition,
    operand_def,
    opt_prop_def,
    prop_def,
    region_def,
    result_def,
    traits_def,
    var_operand_def,
    var_result_def,
)
from xdsl.parser import AttrParser
from xdsl.printer import Printer
from xdsl.traits import IsTerminator, Pure
from xdsl.utils.exceptions import VerifyException

from uqfc.dialects.nn.base import values
from uqfc.dialects.tensors import (
    AnyTensor,
    Shape,
    element_of,
    i8,
    i16,
    integer,
    numpy_dtype,
    shape_of,
    tensor_type,
    type_of,
    ui2,
    ui4,
    ui8,
)

CHOOSERS = ("model", "measured")
FORMATS = ("panels", "blocks", "depthwise")
STORAGES: dict[str, Attribute] = {"s8": i8, "s16": i16, "u4": ui4, "u2": ui2}
ALIGNMENT = 64
"""Bytes; of the arena and of every buffer in it."""


Storage: TypeAlias = Literal["s8", "u4", "u2", "s16"]


@dataclass(frozen=True)
class Packing:
    """How weights and zero points are stored for a kernel; ``uqfc.packing`` has the functions.

    ``panels`` for matrix products and convolutions, with ``panel`` output channels each and the
    ``groups`` of a convolution one after the other and ``segments`` of adjacent inputs padded, in
    ``blocks`` to multiples of 64; ``depthwise`` for one channel per group.
    """

    format: str
    storage: Storage
    panel: int = 16
    groups: int = 1
    segments: int = 1


@irdl_attr_definition
class PackingAttr(Data[Packing]):
    """``#qkernel.packing<panels, u4, 32, 1, 3>``: format, storage, panel, groups, segments."""

    name = "qkernel.packing"

    @classmethod
    def parse_parameter(cls, parser: AttrParser) -> Packing:
        with parser.in_angle_brackets():
            kind = parser.parse_identifier()
            parser.parse_punctuation(",")
            storage = parser.parse_identifier()
            parser.parse_punctuation(",")
            numbers = [parser.parse_integer(allow_boolean=False)]
            for _ in range(2):
                parser.parse_punctuation(",")
                numbers.append(parser.parse_integer(allow_boolean=False))
        return Packing(kind, cast(Storage, storage), *numbers)

    def print_parameter(self, printer: Printer) -> None:
        p = self.data
        printer.print_string(f"<{p.format}, {p.storage}, {p.panel}, {p.groups}, {p.segments}>")

    def verify(self) -> None:
        p = self.data
        if p.format not in FORMATS:
            raise VerifyException(f"unknown packing '{p.format}'; known: {', '.join(FORMATS)}")
        if p.storage not in STORAGES:
            raise VerifyException(f"unknown storage '{p.storage}'; known: {', '.join(STORAGES)}")
        if min(p.panel, p.groups, p.segments) < 1:
            raise VerifyException("packing: panel, groups and segments must be >= 1")


@irdl_op_definition
class UnpackOp(IRDLOperation):
    """Decodes packed bytes (ui8) into the weights and their zero points (i32, one per channel)."""

    name = "qkernel.unpack"
    packed = operand_def()
    packing = prop_def(PackingAttr)
    weight = result_def()
    zero_point = result_def()
    irdl_options = (ParsePropInAttrDict(),)
    traits = traits_def(Pure())
    assembly_format = "$packed attr-dict `:` type($packed) `->` type($weight) `,` type($zero_point)"

    def __init__(self, packed: SSAValue | Operation, packing: Packing, shape: Shape) -> None:
        super().__init__(
            operands=[packed],
            properties={"packing": PackingAttr(packing)},
            result_types=[
                tensor_type(shape, STORAGES[packing.storage]),
                tensor_type((shape[0],), i32),
            ],
        )

    def verify_(self) -> None:
        if len(shape_of(self.packed)) != 1 or element_of(self.packed) != ui8:
            raise VerifyException("qkernel.unpack takes a rank-1 tensor of ui8")
        expected = STORAGES[self.packing.data.storage]
        if element_of(self.weight) != expected:
            raise VerifyException(f"qkernel.unpack: weights must be {expected}")
        if type_of(self.zero_point) != tensor_type(shape_of(self.weight)[:1], i32):
            raise VerifyException("qkernel.unpack: there must be one i32 zero point per channel")


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

    @property
    def kernel_name(self) -> str:
        """The selected kernel, or the empty string."""
        return "" if self.kernel is None else self.kernel.data

    def copy_selection(self, other: LaunchOp) -> None:
        """Take over what was decided for another launch: its kernel and scratch memory."""
        for key in ("kernel", "scratch_bytes", "split", "scratch", "chosen_by"):
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


Qkernel = Dialect("qkernel", [ArenaOp, LaunchOp, UnpackOp, ViewOp, YieldOp], [PackingAttr])

__all__ = [
    "ALIGNMENT",
    "ArenaOp",
    "LaunchOp",
    "Packing",
    "PackingAttr",
    "Qkernel",
    "UnpackOp",
    "ViewOp",
    "YieldOp",
    "as_tensor",
    "memref_bytes",
    "yielded",
]
