"""``fold-padding``: explicit padding with zeros becomes that of the convolution or mean after it.

An average pool must have no padding of its own, and then counts the zeros, as it did before.

Law: exact. The same zeros are multiplied and added in the same order.
"""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern, op_type_rewrite_pattern

from uqfc.dialects import nn
from uqfc.dialects.tensors import Shape, boolean, int_tuple, ints, real, type_of
from uqfc.passes.support.rewriting import apply_patterns, defining, rebuilt


def image_padding(op: nn.PadOp | None) -> Shape | None:
    """(top, left, bottom, right) if the op pads only height and width, with zeros."""
    if op is None or op.mode.data != "constant" or op.value != real(0.0):
        return None
    low, high = int_tuple(op.low), int_tuple(op.high)
    if len(low) != 4 or low[0] or high[0] or low[3] or high[3]:
        return None
    return low[1], low[2], high[1], high[2]


class FoldIntoConv(RewritePattern):
    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: nn.Conv2dOp, rewriter: PatternRewriter, /) -> None:
        pad = defining(op.x, nn.PadOp)
        extra = image_padding(pad)
        if pad is None or extra is None:
            return
        total = [a + b for a, b in zip(int_tuple(op.padding), extra, strict=True)]
        operands = [pad.x, *op.operands[1:]]
        rewriter.replace(op, rebuilt(op, operands, type_of(op), {"padding": ints(total)}))


class FoldIntoMean(RewritePattern):
    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: nn.AvgPool2dOp, rewriter: PatternRewriter, /) -> None:
        pad = defining(op.x, nn.PadOp)
        extra = image_padding(pad)
        if pad is None or extra is None or any(int_tuple(op.padding)):
            return
        changed = {"padding": ints(extra), "count_include_pad": boolean(True)}
        rewriter.replace(op, rebuilt(op, [pad.x], type_of(op), changed))


@dataclass(frozen=True)
class FoldPaddingPass(ModulePass):
    """See the module's documentation."""

    name = "fold-padding"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        apply_patterns(op, FoldIntoConv(), FoldIntoMean())
