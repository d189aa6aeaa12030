"""Constants."""

from __future__ import annotations

from math import isfinite

import numpy as np
from xdsl.dialects.builtin import DenseIntOrFPElementsAttr
from xdsl.ir import Attribute
from xdsl.irdl import irdl_op_definition, prop_def, traits_def
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.traits import ConstantLike, Pure

from uqfc.dialects.nn.base import TensorOp
from uqfc.dialects.tensors import (
    AnyTensor,
    Array,
    dense,
    dense_array,
    f8_e4m3,
    f8_e5m2,
    tensor_type,
)

FLOAT8: tuple[Attribute, ...] = (f8_e4m3, f8_e5m2)
"""The printer's numbers of these do not read back as the same codes."""
MOST_NUMBERS = 100
"""Elements beyond which the printer writes the bytes of a value, as MLIR does."""


@irdl_op_definition
class ConstantOp(TensorOp):
    """A constant tensor."""

    name = "nn.constant"
    value = prop_def(DenseIntOrFPElementsAttr)
    traits = traits_def(Pure(), ConstantLike())

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

    def print(self, printer: Printer) -> None:
        """``{…, value = dense<…> : type} : type``; bytes where numbers would not do."""
        printer.print_string(" ")
        with printer.in_braces():
            for name, attribute in self.attributes.items():
                printer.print_string(f"{name} = ")
                printer.print_attribute(attribute)
                printer.print_string(", ")
            printer.print_string("value = ")
            if prints_exactly(self.value):
                printer.print_attribute(self.value)
            else:
                printer.print_string(f'dense<"0x{self.value.data.data.hex().upper()}"> : ')
                printer.print_attribute(self.value.type)
        printer.print_string(" : ")
        printer.print_attribute(self.result.type)

    @classmethod
    def parse(cls, parser: Parser) -> ConstantOp:
        attributes = parser.parse_optional_attr_dict()
        value = attributes.pop("value", None)
        if not isinstance(value, DenseIntOrFPElementsAttr):
            parser.raise_error("nn.constant takes a dense value")
        parser.parse_punctuation(":")
        kind = parser.parse_type()
        properties: dict[str, Attribute] = {"value": value}
        return cls.create(properties=properties, attributes=attributes, result_types=[kind])


def prints_exactly(value: DenseIntOrFPElementsAttr) -> bool:
    """Whether what the printer writes reads back as the same bits."""
    array = dense_array(value).reshape(-1)
    if value.get_element_type() in FLOAT8:
        return False
    if array.dtype.kind != "f":
        return True
    if len(array) and value.is_splat():
        array = array[:1]
    return len(array) > MOST_NUMBERS or all(reads_back(v) for v in array)


def reads_back(value: np.floating) -> bool:
    """False where the printer writes the bits as a hexadecimal integer, which the parser reads as
    a number: what is not finite, and whole numbers of seven to nine digits."""
    short = f"{value:.5e}"
    return isfinite(value) and (type(value)(short) == value or "." in f"{value:.9g}")
