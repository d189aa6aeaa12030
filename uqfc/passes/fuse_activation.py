"""``fuse-activation``: an activation after a layer, or after add or mul, becomes part of it.

The producer must have no activation yet and no other reader. Only the functions of
``numerics.ACTIVATIONS`` fuse: those that an epilogue computes.

Law: exact. The function is applied to the same value.
"""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, f32
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern, op_type_rewrite_pattern

from uqfc.dialects import nn
from uqfc.dialects.tensors import element_of
from uqfc.numerics import ACTIVATIONS
from uqfc.passes.support.rewriting import apply_patterns

FUSABLE = (nn.Conv2dOp, nn.LinearOp, nn.AddOp, nn.MulOp)


class FuseActivation(RewritePattern):
    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: nn.UnaryOp, rewriter: PatternRewriter, /) -> None:
        producer = op.x.owner
        if not isinstance(producer, FUSABLE) or op.fn.data.name not in ACTIVATIONS:
            return
        if producer.activation is not None or element_of(op.x) != f32:
            return
        if op.x.uses.get_length() != 1:
            return
        producer.properties["activation"] = op.fn
        if not producer.layer and op.layer:
            nn.with_layer(producer, op.layer)
        rewriter.notify_op_modified(producer)
        rewriter.replace(op, [], [producer.result])


@dataclass(frozen=True)
class FuseActivationPass(ModulePass):
    """See the module's documentation."""

    name = "fuse-activation"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        apply_patterns(op, FuseActivation())
