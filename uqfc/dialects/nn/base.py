"""Base classes and the ``#nn.fn`` attribute of the ``nn`` dialect."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from math import isfinite

from xdsl.dialects.builtin import StringAttr
from xdsl.ir import Data, Operation, SSAValue
from xdsl.irdl import IRDLOperation, ParsePropInAttrDict, irdl_attr_definition, result_def
from xdsl.parser import AttrParser
from xdsl.printer import Printer
from xdsl.utils.exceptions import VerifyException

from uqfc.dialects.tensors import AnyTensor
from uqfc.elementary import UNARY
from uqfc.numerics import Activation


@irdl_attr_definition
class FnAttr(Data[Activation]):
    """An elementwise function with its parameters: ``#nn.fn<hard_sigmoid, 0.2, 0.5>``."""

    name = "nn.fn"

    @classmethod
    def parse_parameter(cls, parser: AttrParser) -> Activation:
        with parser.in_angle_brackets():
            name = parser.parse_identifier()
            params: list[float] = []
            while parser.parse_optional_punctuation(","):
                params.append(float(parser.parse_number(allow_boolean=False)))
        return Activation(name, tuple(params))

    def print_parameter(self, printer: Printer) -> None:
        parts = [self.data.name, *(format_float(p) for p in self.data.params)]
        printer.print_string(f"<{', '.join(parts)}>")

    def verify(self) -> None:
        if self.data.name not in UNARY:
            raise VerifyException(
                f"unknown function '{self.data.name}'; known: {', '.join(sorted(UNARY))}"
            )
        expected = UNARY[self.data.name].parameters
        if len(self.data.params) != expected:
            raise VerifyException(
                f"function '{self.data.name}' takes {expected} parameter(s), "
                f"got {len(self.data.params)}"
            )
        if not all(isfinite(p) for p in self.data.params):
            raise VerifyException(f"function '{self.data.name}' has a non-finite parameter")


def format_float(value: float) -> str:
    """Shortest decimal that reads back as the same float, in a form that the parser accepts."""
    text = repr(float(value))
    if "e" in text and "." not in text:
        text = text.replace("e", ".0e")
    return text


def fn(name: str, *params: float) -> FnAttr:
    return FnAttr(Activation(name, params))


class TensorOp(IRDLOperation, ABC):
    """An op with one tensor result whose type follows from operands and properties.

    ``layer`` (an attribute, not a property) is the name that the user knows the op by.
    """

    result = result_def()

    irdl_options = (ParsePropInAttrDict(),)

    @abstractmethod
    def infer_type(self) -> AnyTensor:
        """The result's type; VerifyException if the operands do not fit together."""

    def verify_(self) -> None:
        expected = self.infer_type()
        if self.result.type != expected:
            raise VerifyException(f"result type is {self.result.type}, expected {expected}")

    @property
    def layer(self) -> str:
        """The user's name of this layer, or the empty string."""
        return layer_name(self)


def layer_name(op: Operation) -> str:
    attribute = op.attributes.get("layer")
    return attribute.data if isinstance(attribute, StringAttr) else ""


def with_layer(op: Operation, layer: str) -> None:
    """Name ``op`` as the layer ``layer``, if that is a name."""
    if layer:
        op.attributes["layer"] = StringAttr(layer)


def values(operands: Sequence[SSAValue | Operation]) -> list[SSAValue]:
    return [SSAValue.get(v) for v in operands]
