"""The registry of converters: one function per ATen op, found by its name without overload."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from uqfc.frontend.builder import Builder
from uqfc.frontend.torch.call import Call
from uqfc.frontend.values import Value

Outputs: TypeAlias = Value | Sequence[Value]
Convert: TypeAlias = Callable[[Call, Builder], Outputs]


@dataclass(frozen=True)
class Converter:
    """``convert`` gives the call's result, or its results in order (the last may be left out).

    ``moves`` says that the op only moves or selects elements, or does nothing.
    """

    convert: Convert
    moves: bool


CONVERTERS: dict[str, Converter] = {}
"""By the name of the op: ``conv2d`` for all overloads of ``aten::conv2d``."""


def converter(*ops: str, moves: bool = False) -> Callable[[Convert], Convert]:
    """Register a function as the converter of ``ops``.

    It raises UnsupportedUseError for what the IR cannot express, ModelError or VerifyException for
    what is inconsistent; the message needs not name the call.
    """

    def register(function: Convert) -> Convert:
        for op in ops:
            CONVERTERS[op] = Converter(function, moves)
        return function

    return register
