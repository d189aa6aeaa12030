"""``canonicalize-reshapes``: merges chains of reshapes and drops those that change nothing.

Law: exact. Row-major order is kept.
"""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern, op_type_rewrite_pattern

from uqfc.dialects import nn
from uqfc.dialects.tensors import element_of, shape_of
from uqfc.passes.support.rewriting import apply_patterns, constant_of, defining, replace_named


class DropIdentity(RewritePattern):
    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: nn.ReshapeOp, rewriter: PatternRewriter, /) -> None:
        if shape_of(op.x) == shape_of(op.result):
            rewriter.replace(op, [], [op.x])


class MergeReshapes(RewritePattern):
    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: nn.ReshapeOp, rewriter: PatternRewriter, /) -> None:
        inner = defining(op.x, nn.ReshapeOp)
        if inner is not None:
            replace_named(rewriter, op, nn.ReshapeOp(inner.x, shape_of(op.result)))


class ReshapeConstant(RewritePattern):
    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: nn.ReshapeOp, rewriter: PatternRewriter, /) -> None:
        array = constant_of(op.x)
        if array is not None:
            value = nn.ConstantOp(array.reshape(shape_of(op.result)), element_of(op.result))
            rewriter.replace(op, value)


@dataclass(frozen=True)
class CanonicalizeReshapesPass(ModulePass):
    """See the module's documentation."""

    name = "canonicalize-reshapes"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        apply_patterns(op, DropIdentity(), MergeReshapes(), ReshapeConstant())
