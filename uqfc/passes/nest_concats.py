"""``nest-concats``: concat(a, b, c) becomes concat(concat(a, b), c) if there is concat(a, b).

A densely connected block concatenates more and more of the same values: then all of these are
parts of one buffer (``place-concats``).

Law: exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp
from xdsl.ir import SSAValue
from xdsl.passes import ModulePass
from xdsl.rewriter import Rewriter

from uqfc.dialects import nn


def find_run(values: Sequence[SSAValue], run: Sequence[SSAValue]) -> int | None:
    """The first place where ``run`` is among the values."""
    starts = range(len(values) - len(run) + 1)
    return next((i for i in starts if list(values[i : i + len(run)]) == list(run)), None)


def nest(op: nn.ConcatOp, earlier: Sequence[nn.ConcatOp]) -> nn.ConcatOp:
    """The same with the results of earlier concatenations, in order: later ones may have them."""
    values = list(op.inputs)
    for other in earlier:
        if other.axis != op.axis or len(other.inputs) == 1:
            continue
        while (start := find_run(values, other.inputs)) is not None:
            values[start : start + len(other.inputs)] = [other.result]
    if len(values) == len(op.inputs):
        return op
    nested = nn.ConcatOp(values, op.axis.value.data)
    nested.attributes.update(op.attributes)
    Rewriter.replace_op(op, nested)
    return nested


@dataclass(frozen=True)
class NestConcatsPass(ModulePass):
    """See the module's documentation."""

    name = "nest-concats"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for function in op.ops:
            if isinstance(function, FuncOp):
                earlier: list[nn.ConcatOp] = []
                for concat in [o for o in function.body.block.ops if isinstance(o, nn.ConcatOp)]:
                    earlier.append(nest(concat, earlier))
