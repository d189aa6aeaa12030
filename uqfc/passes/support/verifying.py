"""Verification after every pass at the cost of what the pass changed."""

from __future__ import annotations

from typing import Any, TypeAlias

from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation

_OWN = "uqfc."

State: TypeAlias = tuple[Any, ...]
"""All that the validity of an op of uqfc's dialects without regions depends on."""


class Verifier:
    """Verifies a module again and again; raises what ``ModuleOp.verify`` raises.

    Whether an op of uqfc's dialects is valid depends on nothing but its ``State``, so it is
    verified when that is not what it was. Ops with regions, which are few, and ops of other
    dialects are verified every time.
    """

    def __init__(self) -> None:
        self._verified: dict[Operation, State] = {}

    def verify(self, module: ModuleOp) -> None:
        """Verify ``module``; what was true of the one before is of use for ops in both."""
        before, now = self._verified, dict[Operation, State]()
        for op in module.walk():
            state = state_of(op)
            now[op] = state
            if op.regions or before.get(op) != state or not type(op).__module__.startswith(_OWN):
                op.verify(verify_nested_ops=False)
            for block in (b for region in op.regions for b in region.blocks if b.is_empty):
                block.verify()
        self._verified = now


def state_of(op: Operation) -> State:
    """Operands, types, properties, attributes (which are immutable) and place in the block."""
    return (
        op.operands,
        [v.type for v in op.operands],
        [v.type for v in op.results],
        tuple(op.properties.items()),
        tuple(op.attributes.items()),
        op.parent,
        op.next_op is None,
        op.successors,
    )
