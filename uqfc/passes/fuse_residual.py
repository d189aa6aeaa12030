"""``fuse-residual``: an addition to a layer's result becomes the layer's residual operand.

The layer must have no activation and no residual yet, no other reader, and the other addend must
have the result's shape, vary at run time and be computed before. If both addends are such layers,
the later one takes the other in. An activation of the addition becomes the layer's.

Law: exact. A layer adds bias, then residual; addition commutes.
"""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import SSAValue
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern, op_type_rewrite_pattern

from uqfc.dialects import nn
from uqfc.dialects.tensors import type_of
from uqfc.passes.support.quantizable import LAYERS, is_constant
from uqfc.passes.support.rewriting import apply_patterns, with_operand_list


def accepts(value: SSAValue, other: SSAValue, op: nn.AddOp) -> nn.Layer | None:
    """The layer behind ``value`` if it can take ``other`` in."""
    layer = value.owner
    if not isinstance(layer, LAYERS) or value.uses.get_length() != 1:
        return None
    if layer.activation is not None or layer.residual is not None:
        return None
    same = type_of(value) == type_of(other) == type_of(op.result)
    return layer if same and not is_constant(other) and value is not other else None


class FuseResidual(RewritePattern):
    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: nn.AddOp, rewriter: PatternRewriter, /) -> None:
        first, second = accepts(op.lhs, op.rhs, op), accepts(op.rhs, op.lhs, op)
        layer, residual = (second, op.lhs) if second is not None else (first, op.rhs)
        if first is not None and second is not None and second.is_before_in_block(first):
            layer, residual = first, op.rhs
        if layer is None:
            return
        fused = with_operand_list(layer, residual=residual, activation=op.activation)
        # At the place of the addition: there, both addends exist.
        rewriter.replace(op, fused)
        rewriter.erase(layer)


@dataclass(frozen=True)
class FuseResidualPass(ModulePass):
    """See the module's documentation."""

    name = "fuse-residual"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        apply_patterns(op, FuseResidual())
