"""``canonicalize-weights``: integer weights in the three forms that kernels multiply.

- 4 bits: ``ui4`` with a zero point per channel (i4 is shifted by 8);
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
from uqfc.dialects.tensors import Array, element_of, i4, i8, i16, numpy_dtype, ui4
from uqfc.numerics import I32


def canonical(weight: Array, zero_point: I32, element: Attribute) -> tuple[I32, I32, Attribute]:
    """Integers, zero points and element type in canonical form."""
    wide = weight.astype(np.int32)
    if element == i4:
        return wide + 8, zero_point + 8, ui4
    if element == ui4:
        return wide, zero_point, ui4
    centred = wide - zero_point.reshape(-1, *[1] * (weight.ndim - 1))
    fits = centred.size == 0 or (centred.min() >= -128 and centred.max() <= 127)
    return centred, np.zeros_like(zero_point), i8 if fits else i16


class CanonicalizeWeights(RewritePattern):
    def match_and_rewrite(self, op: Operation, rewriter: PatternRewriter, /) -> None:
        if not isinstance(op, IntegerLayerOp):
            return
        weight, zero = op.weight.owner, op.weight_zero_point.owner
        if not isinstance(weight, nn.ConstantOp) or not isinstance(zero, nn.ConstantOp):
            return
        before = element_of(op.weight)
        array, zero_point, element = canonical(weight.array, zero.array.astype(np.int32), before)
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
