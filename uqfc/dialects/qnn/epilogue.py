"""What happens to the int32 sum of a layer: the ``#qnn.epilogue`` attribute."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from xdsl.ir import Data
from xdsl.irdl import (
    irdl_attr_definition,
)
from xdsl.parser import AttrParser
from xdsl.printer import Printer
from xdsl.utils.exceptions import VerifyException

from uqfc.dialects.nn.base import FnAttr, format_float
from uqfc.dialects.qnn.bounds import check_bounds, check_zero_point
from uqfc.numerics import ACTIVATIONS, Activation


@dataclass(frozen=True)
class Epilogue:
    """What happens to the int32 sum (see ``numerics``; ``v`` is float32).

    ``v = f32(acc) * m [+ f32(residual - residual_zero_point) * residual_multiplier]``, then
    - without activation: ``zero_point + rne(clamp(v, qmin - zero_point, qmax - zero_point))``;
    - with: the same of ``activation(v) * reciprocal``;
    - float32 result: ``v``, or ``activation(v)``; the other fields are unused.
    """

    zero_point: int = 0
    qmin: int = 0
    qmax: int = 255
    activation: Activation | None = None
    reciprocal: float = 1.0
    residual_zero_point: int = 0
    residual_multiplier: float = 1.0


@irdl_attr_definition
class EpilogueAttr(Data[Epilogue]):
    """``#qnn.epilogue<zero_point, qmin:qmax, residual_zp:multiplier, reciprocal, #nn.fn<…>>``."""

    name = "qnn.epilogue"

    @classmethod
    def parse_parameter(cls, parser: AttrParser) -> Epilogue:
        with parser.in_angle_brackets():
            zero_point = parser.parse_integer(allow_boolean=False)
            parser.parse_punctuation(",")
            qmin = parser.parse_integer(allow_boolean=False)
            parser.parse_punctuation(":")
            qmax = parser.parse_integer(allow_boolean=False)
            parser.parse_punctuation(",")
            residual_zero = parser.parse_integer(allow_boolean=False)
            parser.parse_punctuation(":")
            residual_multiplier = float(parser.parse_number(allow_boolean=False))
            parser.parse_punctuation(",")
            reciprocal = float(parser.parse_number(allow_boolean=False))
            activation = None
            if parser.parse_optional_punctuation(","):
                attribute = parser.parse_attribute()
                if not isinstance(attribute, FnAttr):
                    parser.raise_error("expected #nn.fn<…>")
                activation = attribute.data
        return Epilogue(
            zero_point, qmin, qmax, activation, reciprocal, residual_zero, residual_multiplier
        )

    def print_parameter(self, printer: Printer) -> None:
        e = self.data
        with printer.in_angle_brackets():
            printer.print_string(
                f"{e.zero_point}, {e.qmin}:{e.qmax}, {e.residual_zero_point}:"
                f"{format_float(e.residual_multiplier)}, {format_float(e.reciprocal)}"
            )
            if e.activation is not None:
                printer.print_string(", ")
                printer.print_attribute(FnAttr(e.activation))

    def verify(self) -> None:
        e = self.data
        check_bounds("epilogue", e.zero_point, e.qmin, e.qmax)
        check_zero_point("epilogue's residual", e.residual_zero_point)
        for value in (e.reciprocal, e.residual_multiplier):
            if not np.isfinite(value) or float(np.float32(value)) != value:
                raise VerifyException("epilogue: factors must be finite float32 values")
        if e.activation is not None and e.activation.name not in ACTIVATIONS:
            known = ", ".join(ACTIVATIONS)
            raise VerifyException(f"epilogue: activation must be one of {known}")
