"""``canonicalize-weights``: integer weights in the forms that kernels multiply.

- 4 bits: ``ui4`` with a zero point per channel (i4 is shifted by 8);
- 2 bits, if the layer's decision is ternary or binary weights: ``ui2``, shifted by 1;
- 8 bits: ``i8`` with zero point 0, if every ``w - zero_point`` fits;
- otherwise ``i16`` with zero point 0 (asymmetric 8-bit weights need 9 bits).

Law: exact. ``w - zero_point`` does not change.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Attribute, Operation
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import (
    GreedyRewritePatternApplier,
    PatternRewriter,
    PatternRewriteWalker,
    RewritePattern,
)

from uqfc.dialects import nn
from uqfc.dialects.qnn import IntegerLayerOp
from uqfc.dialects.quant.decisions import decision_of
from uqfc.dialects.tensors import NARROW, Array, element_of, i4, i8, i16, numpy_dtype, ui2, ui4
from uqfc.numerics import I32

TWO_BITS = ("ternary", "binary")


def canonical(
    weight: Array, zero_point: I32, element: Attribute, dtype: str = ""
) -> tuple[I32, I32, Attribute]:
    """Integers, zero points and element type in canonical form; ``dtype`` was decided on."""
    wide = weight.astype(np.int32)
    if dtype in TWO_BITS and element in NARROW:
        centred = centred_weight(wide, zero_point)
        if centred.size and np.abs(centred).max() <= 1:
            return centred + 1, np.ones_like(zero_point), ui2
    if element == i4:
        return wide + 8, zero_point + 8, ui4
    if element == ui4:
        return wide, zero_point, ui4
    if element == ui2:
        return wide, zero_point, ui2
    centred = centred_weight(wide, zero_point)
    fits = centred.size == 0 or (centred.min() >= -128 and centred.max() <= 127)
    return centred, np.zeros_like(zero_point), i8 if fits else i16


def centred_weight(weight: I32, zero_point: I32) -> I32:
    """``w - zero_point``, with a zero point per output channel."""
    return weight - zero_point.reshape(-1, *[1] * (weight.ndim - 1))


class CanonicalizeWeights(RewritePattern):
    def match_and_rewrite(self, op: Operation, rewriter: PatternRewriter, /) -> None:
        if not isinstance(op, IntegerLayerOp):
            return
        weight, zero = op.weight.owner, op.weight_zero_point.owner
        if not isinstance(weight, nn.ConstantOp) or not isinstance(zero, nn.ConstantOp):
            return
        before = element_of(op.weight)
        decision, zeros = decision_of(op), zero.array.astype(np.int32)
        dtype = "" if decision is None else decision.chosen
        array, zero_point, element = canonical(weight.array, zeros, before, dtype)
        if element == before and np.array_equal(zero_point, zero.array):
            return
        new_weight = nn.ConstantOp(array.astype(numpy_dtype(element)), element)
        new_zero = nn.ConstantOp(zero_point.astype(np.int32))
        rewriter.insert([new_weight, new_zero])
        op.operands[1], op.operands[2] = new_weight.result, new_zero.result
        rewriter.notify_op_modified(op)
        for constant in (weight, zero):
            if constant.result.first_use is None:
                rewriter.erase(constant)


@dataclass(frozen=True)
class CanonicalizeWeightsPass(ModulePass):
    """See the module's documentation."""

    name = "canonicalize-weights"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        PatternRewriteWalker(
            GreedyRewritePatternApplier([CanonicalizeWeights()]), apply_recursively=False
        ).rewrite_module(op)
