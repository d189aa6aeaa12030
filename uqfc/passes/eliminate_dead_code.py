"""``eliminate-dead-code``: removes ops whose results nobody uses. Law: exact."""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp
from xdsl.passes import ModulePass
from xdsl.rewriter import Rewriter
from xdsl.traits import Pure


@dataclass(frozen=True)
class EliminateDeadCodePass(ModulePass):
    """See the module's documentation."""

    name = "eliminate-dead-code"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for function in op.ops:
            if not isinstance(function, FuncOp):
                continue
            for each in reversed(list(function.body.block.ops)):
                unused = all(r.first_use is None for r in each.results)
                if each.results and unused and each.has_trait(Pure):
                    Rewriter.erase_op(each)
