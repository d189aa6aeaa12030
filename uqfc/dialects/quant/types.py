"""``!quant.uniform``: the parameters, their checks, and the type's text."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite, prod

import numpy as np
from numpy.typing import NDArray
from xdsl.ir import Attribute, Data, Operation, SSAValue, TypeAttribute
from xdsl.irdl import (
    irdl_attr_definition,
)
from xdsl.parser import AttrParser
from xdsl.printer import Printer
from xdsl.utils.exceptions import VerifyException

from uqfc.dialects.nn.base import format_float
from uqfc.dialects.tensors import (
    Shape,
    element_of,
    f8_e4m3,
    f8_e5m2,
    i2,
    i4,
    i8,
    ui2,
    ui4,
    ui8,
)
from uqfc.float8 import FORMATS, Float8

STORAGE_RANGES: dict[str, tuple[int, int]] = {
    "u8": (0, 255),
    "i8": (-128, 127),
    "u4": (0, 15),
    "i4": (-8, 7),
    "u2": (0, 3),
    "i2": (-2, 1),
    "i32": (-(2**31), 2**31 - 1),
    **{name: (-int(form.largest), int(form.largest)) for name, form in FORMATS.items()},
}
"""Integers of a storage type; of 8-bit floats, the largest numbers."""
STORAGE_ELEMENTS: dict[str, Attribute] = {
    "u8": ui8,
    "i8": i8,
    "u4": ui4,
    "i4": i4,
    "u2": ui2,
    "i2": i2,
    "f8E4M3FN": f8_e4m3,
    "f8E5M2": f8_e5m2,
}


@dataclass(frozen=True)
class QuantParams:
    """``real = (q - zero_point) * scale`` with ``qmin <= q <= qmax``.

    8-bit floats: ``real = number * scale``; the range is that of the format, zero points are 0.
    ``axis`` is None per tensor; ``block`` > 0 groups the axis into blocks of that many elements.
    """

    storage: str
    qmin: int
    qmax: int
    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    axis: int | None = None
    block: int = 0

    @staticmethod
    def of(
        storage: str,
        scales: NDArray[np.float32] | float,
        zero_points: NDArray[np.int32] | int = 0,
        *,
        axis: int | None = None,
        block: int = 0,
        qmin: int | None = None,
        qmax: int | None = None,
    ) -> QuantParams:
        """From arrays; the range defaults to the storage's."""
        low, high = STORAGE_RANGES[storage]
        scale_list = np.atleast_1d(np.asarray(scales, np.float32)).reshape(-1)
        zero_list = np.broadcast_to(np.asarray(zero_points, np.int32), scale_list.shape).reshape(-1)
        return QuantParams(
            storage,
            low if qmin is None else qmin,
            high if qmax is None else qmax,
            tuple(float(s) for s in scale_list),
            tuple(int(z) for z in zero_list),
            axis,
            block,
        )

    @property
    def float8(self) -> Float8 | None:
        """The format of 8-bit floats; None for integers."""
        return FORMATS.get(self.storage)

    def broadcast(self, shape: Shape) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Scale and zero point as arrays that broadcast against a tensor of this shape."""
        scale = np.asarray(self.scales, np.float32)
        zero = np.asarray(self.zero_points, np.int32)
        if self.axis is None:
            return scale.reshape(()), zero.reshape(())
        if not self.block:
            view = [1] * len(shape)
            view[self.axis] = shape[self.axis]
            return scale.reshape(view), zero.reshape(view)
        grid = block_grid(shape, self.axis, self.block)
        spread = [
            np.repeat(v.reshape(grid), self.block, axis=self.axis).take(
                range(shape[self.axis]), axis=self.axis
            )
            for v in (scale, zero)
        ]
        return spread[0].astype(np.float32), spread[1].astype(np.int32)


def block_grid(shape: Shape, axis: int, block: int) -> Shape:
    """The shape with ``axis`` counted in blocks; the last block may be short."""
    return (*shape[:axis], -(-shape[axis] // block), *shape[axis + 1 :])


def check_params(params: QuantParams) -> None:
    """VerifyException unless the parameters are within NUMERICS' bounds."""
    if params.storage not in STORAGE_RANGES:
        known = ", ".join(STORAGE_RANGES)
        raise VerifyException(f"unknown storage type '{params.storage}'; known: {known}")
    low, high = STORAGE_RANGES[params.storage]
    if not low <= params.qmin < params.qmax <= high:
        raise VerifyException(
            f"range {params.qmin}:{params.qmax} is not within {params.storage}'s {low}:{high}"
        )
    if params.float8 is not None:
        if (params.qmin, params.qmax) != (low, high) or any(params.zero_points):
            raise VerifyException(f"{params.storage} has its whole range and zero point 0")
        if params.block:
            raise VerifyException(f"{params.storage} has no scales per block")
    if not params.scales or len(params.scales) != len(params.zero_points):
        raise VerifyException("there must be as many zero points as scales, and at least one")
    if any(not isfinite(s) or s <= 0 or float(np.float32(s)) != s for s in params.scales):
        raise VerifyException("scales must be finite float32 values > 0")
    if any(not params.qmin <= z <= params.qmax for z in params.zero_points):
        raise VerifyException(f"zero points must be within {params.qmin}:{params.qmax}")
    if params.axis is None and (len(params.scales) != 1 or params.block):
        raise VerifyException("a per-tensor type has exactly one scale")
    if params.axis is not None and (params.axis < 0 or params.block < 0):
        raise VerifyException("axis and block must not be negative")


@irdl_attr_definition
class UniformType(Data[QuantParams], TypeAttribute):
    """``!quant.uniform<…>``: an element type that carries its whole quantization."""

    name = "quant.uniform"

    def verify(self) -> None:
        check_params(self.data)

    @classmethod
    def parse_parameter(cls, parser: AttrParser) -> QuantParams:
        with parser.in_angle_brackets():
            storage = parser.parse_identifier()
            if storage not in STORAGE_RANGES:
                known = ", ".join(STORAGE_RANGES)
                parser.raise_error(f"unknown storage type '{storage}'; known: {known}")
            qmin, qmax = STORAGE_RANGES[storage]
            if parser.parse_optional_punctuation("<"):
                qmin = parser.parse_integer(allow_boolean=False)
                parser.parse_punctuation(":")
                qmax = parser.parse_integer(allow_boolean=False)
                parser.parse_punctuation(">")
            parser.parse_punctuation(":")
            parser.parse_keyword("f32")
            axis, block = cls._parse_axis(parser)
            parser.parse_punctuation(",")
            pairs = (
                [cls._parse_scale(parser)]
                if axis is None
                else parser.parse_comma_separated_list(
                    parser.Delimiter.BRACES, lambda: cls._parse_scale(parser)
                )
            )
        return QuantParams(
            storage, qmin, qmax, tuple(s for s, _ in pairs), tuple(z for _, z in pairs), axis, block
        )

    @staticmethod
    def _parse_axis(parser: AttrParser) -> tuple[int | None, int]:
        if not parser.parse_optional_punctuation(":"):
            return None, 0
        if not parser.parse_optional_punctuation("{"):
            return parser.parse_integer(allow_boolean=False), 0
        axis = parser.parse_integer(allow_boolean=False)
        parser.parse_punctuation(":")
        block = parser.parse_integer(allow_boolean=False)
        parser.parse_punctuation("}")
        return axis, block

    @staticmethod
    def _parse_scale(parser: AttrParser) -> tuple[float, int]:
        scale = float(np.float32(parser.parse_number(allow_boolean=False)))
        if not parser.parse_optional_punctuation(":"):
            return scale, 0
        return scale, parser.parse_integer(allow_boolean=False)

    def print_parameter(self, printer: Printer) -> None:
        p = self.data
        bounds = "" if (p.qmin, p.qmax) == STORAGE_RANGES[p.storage] else f"<{p.qmin}:{p.qmax}>"
        axis = "" if p.axis is None else f":{{{p.axis}:{p.block}}}" if p.block else f":{p.axis}"
        scales = ", ".join(
            format_scale(s) + (f":{z}" if z else "")
            for s, z in zip(p.scales, p.zero_points, strict=True)
        )
        scales = scales if p.axis is None else f"{{{scales}}}"
        printer.print_string(f"<{p.storage}{bounds}:f32{axis}, {scales}>")


def format_scale(scale: float) -> str:
    """Shortest decimal that reads back as the same float32."""
    text = str(np.float32(scale))
    return format_float(float(text))


def uniform_of(value: SSAValue | Operation) -> QuantParams:
    """The parameters of a tensor of quantized elements; VerifyException for any other."""
    element = element_of(value)
    if not isinstance(element, UniformType):
        raise VerifyException(f"expected quantized elements, got {element}")
    return element.data


def check_fits(params: QuantParams, shape: Shape) -> None:
    """VerifyException unless a tensor of this shape can have these parameters."""
    if params.axis is None:
        return
    if params.axis >= len(shape):
        raise VerifyException(f"axis {params.axis} is outside rank {len(shape)}")
    expected = (
        prod(block_grid(shape, params.axis, params.block)) if params.block else shape[params.axis]
    )
    if len(params.scales) != expected:
        raise VerifyException(f"{len(params.scales)} scales for shape {shape}, expected {expected}")
