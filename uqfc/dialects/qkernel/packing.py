"""Packed weights: how they are stored, and the op that decodes them in a launch's body."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from xdsl.dialects.builtin import i32
from xdsl.ir import Attribute, Data, Operation, SSAValue
from xdsl.irdl import (
    IRDLOperation,
    ParsePropInAttrDict,
    irdl_attr_definition,
    irdl_op_definition,
    operand_def,
    prop_def,
    result_def,
    traits_def,
)
from xdsl.parser import AttrParser
from xdsl.printer import Printer
from xdsl.traits import Pure
from xdsl.utils.exceptions import VerifyException

from uqfc.dialects.tensors import (
    Shape,
    element_of,
    i8,
    i16,
    shape_of,
    tensor_type,
    type_of,
    ui2,
    ui4,
    ui8,
)
from uqfc.packing import Storage

FORMATS = ("panels", "blocks", "depthwise")
STORAGES: dict[str, Attribute] = {"s8": i8, "s16": i16, "u4": ui4, "u2": ui2}


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
