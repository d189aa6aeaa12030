"""``fold-constants``: evaluates movement and arithmetic on constants.

Law: exact. The folded value is what the op's definition gives.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, f32
from xdsl.ir import Operation
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern

from uqfc.dialects import nn
from uqfc.dialects.tensors import Array, element_of, int_tuple, shape_of
from uqfc.elementary import UNARY
from uqfc.numerics import NUMPY
from uqfc.passes.support.rewriting import apply_patterns, constant_of

MOST_ELEMENTS = 1 << 26
"""Results beyond this stay ops: folding must not blow up a model."""


def unary(op: nn.UnaryOp, x: Array) -> Array:
    return np.asarray(UNARY[op.fn.data.name].f32(NUMPY, x, *op.fn.data.params), np.float32)


FOLDERS: dict[type[Operation], Callable[..., Array]] = {
    nn.ReshapeOp: lambda op, x: x.reshape(shape_of(op.result)),
    nn.TransposeOp: lambda op, x: x.transpose(int_tuple(op.permutation)),
    nn.BroadcastOp: lambda op, x: np.broadcast_to(x, shape_of(op.result)),
    nn.ConcatOp: lambda op, *xs: np.concatenate(xs, op.axis.value.data),
    nn.UnaryOp: unary,
    nn.AddOp: lambda op, a, b: a + b,
    nn.SubOp: lambda op, a, b: a - b,
    nn.MulOp: lambda op, a, b: a * b,
    nn.DivOp: lambda op, a, b: a / b,
    nn.MaximumOp: lambda op, a, b: np.where(b > a, b, a),
    nn.MinimumOp: lambda op, a, b: np.where(b < a, b, a),
}
ARITHMETIC = (nn.UnaryOp, nn.BinaryOp)


class FoldConstant(RewritePattern):
    def match_and_rewrite(self, op: Any, rewriter: PatternRewriter) -> None:
        folder = FOLDERS.get(type(op))
        if folder is None or op.properties.get("activation") is not None:
            return
        if isinstance(op, ARITHMETIC) and element_of(op.operands[0]) != f32:
            return
        arrays = [constant_of(v) for v in op.operands]
        if any(a is None for a in arrays) or np.prod(shape_of(op.result)) > MOST_ELEMENTS:
            return
        with np.errstate(all="ignore"):
            value = folder(op, *arrays)
        rewriter.replace(op, nn.ConstantOp(np.ascontiguousarray(value), element_of(op.result)))


@dataclass(frozen=True)
class FoldConstantsPass(ModulePass):
    """See the module's documentation."""

    name = "fold-constants"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        apply_patterns(op, FoldConstant())
