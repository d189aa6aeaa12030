"""``transpose-before-quantize``: ``transpose(quantize(x))`` becomes ``quantize(transpose(x))``.

A kernel reads an operand transposed at no cost, so a channel-first image is quantized and
rearranged in one go.

Law: exact. Quantizing works element by element, and per tensor.
"""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern, op_type_rewrite_pattern

from uqfc.dialects import nn
from uqfc.dialects.qnn import Float8QuantizeOp, QuantizeOp
from uqfc.dialects.tensors import int_tuple
from uqfc.passes.support.rewriting import apply_patterns, rebuilt


class TransposeBeforeQuantize(RewritePattern):
    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: nn.TransposeOp, rewriter: PatternRewriter, /) -> None:
        quantize = op.x.owner
        if (
            not isinstance(quantize, QuantizeOp | Float8QuantizeOp)
            or not quantize.result.has_one_use()
        ):
            return
        transpose = nn.TransposeOp(quantize.x, int_tuple(op.permutation))
        moved = rebuilt(quantize, [transpose.result], op.result.type)
        rewriter.replace(op, [transpose, moved])
        rewriter.erase(quantize)


@dataclass(frozen=True)
class TransposeBeforeQuantizePass(ModulePass):
    """See the module's documentation."""

    name = "transpose-before-quantize"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        apply_patterns(op, TransposeBeforeQuantize())
