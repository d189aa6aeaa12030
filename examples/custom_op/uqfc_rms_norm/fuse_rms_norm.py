"""``fuse-rms-norm``: a decomposed RMS normalisation over the last axis becomes one ``rms.norm``.

Recognised is the form of ONNX ``RMSNormalization``, with operands of add and mul in either order:
``x / sqrt(mean(x * x) + epsilon) * scale``, with one epsilon and a scale for each channel.
``x * (1 / sqrt(…)) * scale`` rounds once more, so it is another function and stays as it is.

Law: exact. ``rms.norm`` means the same float operations in the same order.
"""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import SSAValue
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern, op_type_rewrite_pattern

from uqfc.dialects import nn
from uqfc.dialects.tensors import int_tuple, shape_of
from uqfc.passes.support.rewriting import apply_patterns, defining, replace_named, scalar_of
from uqfc_rms_norm.dialect import RmsNormOp


def mean_of_squares(value: SSAValue) -> SSAValue | None:
    """``x`` if the value is ``mean(x * x)`` over the last axis."""
    mean = defining(value, nn.ReduceOp)
    if mean is None or mean.kind.data != "mean":
        return None
    square = defining(mean.x, nn.MulOp)
    if square is None or square.activation is not None or square.lhs is not square.rhs:
        return None
    last = len(shape_of(square.lhs)) - 1
    return square.lhs if int_tuple(mean.axes) == (last,) else None


def root_mean_square(value: SSAValue) -> tuple[SSAValue, float] | None:
    """``(x, epsilon)`` if the value is ``sqrt(mean(x * x) + epsilon)``."""
    root = defining(value, nn.UnaryOp)
    if root is None or root.fn != nn.fn("sqrt"):
        return None
    shifted = defining(root.x, nn.AddOp)
    if shifted is None or shifted.activation is not None:
        return None
    for mean, offset in ((shifted.lhs, shifted.rhs), (shifted.rhs, shifted.lhs)):
        x, epsilon = mean_of_squares(mean), scalar_of(offset)
        if x is not None and epsilon is not None and shape_of(mean) == shape_of(value):
            return x, epsilon
    return None


class FuseRmsNorm(RewritePattern):
    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: nn.MulOp, rewriter: PatternRewriter, /) -> None:
        if op.activation is not None:
            return
        for value, scale in ((op.lhs, op.rhs), (op.rhs, op.lhs)):
            normal = defining(value, nn.DivOp)
            found = None if normal is None else root_mean_square(normal.rhs)
            if normal is None or found is None or found[0] is not normal.lhs:
                continue
            if shape_of(scale) == shape_of(normal.lhs)[-1:]:
                replace_named(rewriter, op, RmsNormOp(normal.lhs, scale, found[1]))
                return


@dataclass(frozen=True)
class FuseRmsNormPass(ModulePass):
    """See the module's documentation."""

    name = "fuse-rms-norm"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        apply_patterns(op, FuseRmsNorm())
