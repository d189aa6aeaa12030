"""``fold-constants``: evaluates movement and arithmetic on constants.

Law: exact. The folded value is what the op's definition gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern

from uqfc.dialects import nn
from uqfc.dialects.tensors import Array, element_count, element_of, int_tuple, shape_of
from uqfc.elementary import UNARY
from uqfc.numerics import NUMPY
from uqfc.passes.support.rewriting import apply_patterns, constant_of

MOST_ELEMENTS = 1 << 26
"""Results beyond this stay ops: folding must not blow up a model."""


def folded(op: Operation, arrays: Sequence[Array]) -> Array | None:
    """The value of an op on constants; None for ops that are not folded."""
    first, last = arrays[0], arrays[-1]
    match op:
        case nn.ReshapeOp():
            return first.reshape(shape_of(op.result))
        case nn.TransposeOp():
            return first.transpose(int_tuple(op.permutation))
        case nn.BroadcastOp():
            return np.broadcast_to(first, shape_of(op.result))
        case nn.ConcatOp():
            return np.concatenate(arrays, op.axis.value.data)
        case _ if first.dtype != np.float32 or "activation" in op.properties:
            return None
        case nn.UnaryOp():
            function = op.fn.data
            return np.asarray(UNARY[function.name].f32(NUMPY, first, *function.params), np.float32)
        case nn.AddOp():
            return first + last
        case nn.SubOp():
            return first - last
        case nn.MulOp():
            return first * last
        case nn.DivOp():
            return first / last
        case _:
            return None


class FoldConstant(RewritePattern):
    def match_and_rewrite(self, op: Operation, rewriter: PatternRewriter) -> None:
        if not op.operands or len(op.results) != 1 or isinstance(op, nn.ConstantOp):
            return
        arrays = [constant_of(v) for v in op.operands]
        known = [a for a in arrays if a is not None]
        if len(known) < len(arrays) or element_count(shape_of(op.results[0])) > MOST_ELEMENTS:
            return
        with np.errstate(all="ignore"):
            value = folded(op, known)
        if value is not None:
            element = element_of(op.results[0])
            rewriter.replace(op, nn.ConstantOp(value, element))


@dataclass(frozen=True)
class FoldConstantsPass(ModulePass):
    """See the module's documentation."""

    name = "fold-constants"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        apply_patterns(op, FoldConstant())
