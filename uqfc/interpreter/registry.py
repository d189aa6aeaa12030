"""The registry that maps an op to its meaning."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from xdsl.ir import Operation

from uqfc.dialects.tensors import Array

if TYPE_CHECKING:
    from uqfc.interpreter.engine import Interpreter

Results: TypeAlias = Array | tuple[Array, ...]

MEANINGS: dict[type[Operation], Callable[..., Results]] = {}
"""``f(op, *operands) -> results`` for every op that has a meaning on its own."""

CONTEXTUAL_MEANINGS: dict[type[Operation], Callable[..., Results]] = {}
"""``f(interpreter, op, *operands) -> results``: ops with regions, or with a fast float version."""

F = TypeVar("F", bound=Callable[..., Any])


def meaning(*op_types: type[Operation]) -> Callable[[F], F]:
    """Register ``f(op, *operands)`` as what ``op_types`` compute.

    ``operands`` are arrays in the op's operand order, absent optional ones left out; the function
    returns one array or a tuple of one array per result, and never writes to an operand.
    """

    def register(function: F) -> F:
        for op_type in op_types:
            MEANINGS[op_type] = function
        return function

    return register


def contextual_meaning(*op_types: type[Operation]) -> Callable[[F], F]:
    """Register ``f(interpreter: Interpreter, op, *operands)``; see ``meaning``."""

    def register(function: F) -> F:
        for op_type in op_types:
            CONTEXTUAL_MEANINGS[op_type] = function
        return function

    return register


def evaluate(interpreter: Interpreter, op: Operation, operands: list[Array]) -> tuple[Array, ...]:
    """The results of one op; NotImplementedError names an op without a meaning."""
    kind = type(op)
    if kind in CONTEXTUAL_MEANINGS:
        results = CONTEXTUAL_MEANINGS[kind](interpreter, op, *operands)
    elif kind in MEANINGS:
        results = MEANINGS[kind](op, *operands)
    else:
        raise NotImplementedError(f"op '{op.name}' has no meaning in the interpreter")
    return results if isinstance(results, tuple) else (results,)
