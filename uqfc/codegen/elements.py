"""Types of elements and constants of them, as LLVM has them.

The types are named ``"f32" "i64" "i32" "i16" "i8" "i1"``.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from uqfc.codegen.llvm import ir

ELEMENTS: dict[str, Any] = {
    "f32": ir.FloatType(),
    "i64": ir.IntType(64),
    "i32": ir.IntType(32),
    "i16": ir.IntType(16),
    "i8": ir.IntType(8),
    "i1": ir.IntType(1),
}
BYTES = {"f32": 4, "i64": 8, "i32": 4, "i16": 2, "i8": 1}
_NAMES = {str(t): name for name, t in ELEMENTS.items()}


def element_name(kind: Any) -> str:
    """The name of an LLVM type that is in ``ELEMENTS``."""
    return _NAMES[str(kind)]


@lru_cache
def llvm_type(element: str, lanes: int) -> Any:
    """The LLVM type of ``lanes`` elements; 0 lanes is a scalar."""
    scalar = ELEMENTS[element]
    return ir.VectorType(scalar, lanes) if lanes else scalar


def round_to_float32(x: float) -> float:
    """The float32 nearest to ``x``; infinite beyond the largest."""
    return struct.unpack("f", struct.pack("f", x))[0]


def constant(element: str, lanes: int, numbers: Sequence[float]) -> Any:
    """The LLVM constant of ``lanes`` numbers; one number, 0 lanes: a scalar.

    The same bits are the same object, so that a constant is made, and turned into text, once.
    """
    if element == "f32":
        return _constant(element, lanes, struct.pack(f"{len(numbers)}f", *numbers))
    return _constant(element, lanes, tuple(numbers))


@lru_cache(maxsize=1 << 14)
def _constant(element: str, lanes: int, content: bytes | tuple[float, ...]) -> Any:
    numbers = memoryview(content).cast("f") if isinstance(content, bytes) else content
    return ir.Constant(llvm_type(element, lanes), list(numbers) if lanes else numbers[0])


@lru_cache
def undefined(element: str, lanes: int) -> Any:
    """A vector whose lanes are anything."""
    result = ir.Constant(llvm_type(element, lanes), ir.Undefined)
    result.constant = ir.Undefined  # as text one word; llvmlite made that a list of all lanes
    return result
