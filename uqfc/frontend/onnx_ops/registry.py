"""The registry of converters: one function per ONNX op, found by (domain, op type)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from uqfc.frontend.builder import Builder
from uqfc.frontend.node import Node
from uqfc.frontend.values import Value

Outputs: TypeAlias = Value | Sequence[Value]
Convert: TypeAlias = Callable[[Node, Builder], Outputs]

MICROSOFT = "com.microsoft"


@dataclass(frozen=True)
class Converter:
    """``convert`` gives the node's outputs in order; unused ones at the end may be left out.

    ``moves`` says that the op only moves or selects elements: then it is applied to quantized
    values as they are. Other ops get the stored integers.
    """

    convert: Convert
    moves: bool


CONVERTERS: dict[tuple[str, str], Converter] = {}


def converter(*ops: str, domain: str = "", moves: bool = False) -> Callable[[Convert], Convert]:
    """Register a function as the converter of ``ops``.

    It raises UnsupportedUseError for what the IR cannot express, ModelError or VerifyException for
    what is inconsistent; the message needs not name the node.
    """

    def register(function: Convert) -> Convert:
        for op in ops:
            CONVERTERS[domain, op] = Converter(function, moves)
        return function

    return register
