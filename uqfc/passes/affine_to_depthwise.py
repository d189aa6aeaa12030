"""``affine-to-depthwise``: a batch norm that no layer took in becomes a 1x1 depthwise convolution.

``x * a + b`` with one value per channel (pre-activation networks: a batch norm after a
concatenation or a sum) has no integer form, and would put float islands between integer layers.
As a depthwise convolution it has one, with the activation in its epilogue, and its weights lose
nothing: a channel's only weight is the end of that channel's range.

Applies to images (NHWC) that depend on some layer; the normalisation of an input stays float, where
it costs no accuracy.

Law: exact but for the sign of a zero. A sum of one product is that product plus +0.0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern

from uqfc.dialects import nn
from uqfc.dialects.tensors import Array, shape_of
from uqfc.passes.support.quantizable import LAYERS
from uqfc.passes.support.rewriting import apply_patterns, constant_of, defining


def channel_constant(value: SSAValue, channels: int) -> Array | None:
    """A float constant as [channels], or None if it varies along other axes."""
    array = constant_of(value)
    if array is None or array.dtype != np.float32 or array.size not in (1, channels):
        return None
    if array.size > 1 and array.shape[-1] != channels:
        return None
    return np.broadcast_to(array.reshape(-1), (channels,))


def scaled_by_channel(op: nn.MulOp | nn.AddOp) -> tuple[SSAValue, Array] | None:
    """The operand of the result's shape and the constant of one value per channel."""
    shape = shape_of(op.result)
    for x, other in ((op.lhs, op.rhs), (op.rhs, op.lhs)):
        constant = channel_constant(other, shape[-1]) if shape_of(x) == shape else None
        if constant is not None:
            return x, constant
    return None


def depends_on_layer(value: SSAValue) -> bool:
    """Whether a layer is among the ops that the value is computed from."""
    seen: set[Operation] = set()
    pending = [value]
    while pending:
        owner = pending.pop().owner
        if isinstance(owner, LAYERS):
            return True
        if isinstance(owner, Operation) and owner not in seen:
            seen.add(owner)
            pending.extend(owner.operands)
    return False


class AffineToDepthwise(RewritePattern):
    """``x * a``, ``x + b`` and ``x * a + b``."""

    def match_and_rewrite(self, op: Operation, rewriter: PatternRewriter, /) -> None:
        if not isinstance(op, nn.MulOp | nn.AddOp) or len(shape_of(op.result)) != 4:
            return
        last = scaled_by_channel(op)
        if last is None or not depends_on_layer(last[0]) or self._has_sum_after(op):
            return
        x, constant = last
        factor, bias = constant, None
        if isinstance(op, nn.AddOp):
            factor, bias = np.ones_like(constant), nn.ConstantOp(constant)
            product = defining(x, nn.MulOp)
            inner = None if product is None else scaled_by_channel(product)
            if product is not None and inner is not None and self._only_feeds_sum(product):
                x, factor = inner
        channels = len(factor)
        weight = nn.ConstantOp(factor.reshape(channels, 1, 1, 1))
        conv = nn.Conv2dOp(x, weight, bias, groups=channels, activation=op.activation)
        conv.attributes.update(op.attributes)
        constants = [weight] if bias is None else [weight, bias]
        rewriter.replace(op, [*constants, conv])

    @staticmethod
    def _only_feeds_sum(op: nn.MulOp) -> bool:
        return op.activation is None and op.result.has_one_use()

    def _has_sum_after(self, op: nn.MulOp | nn.AddOp) -> bool:
        """A product that only feeds such a sum is taken in with the sum."""
        user = op.result.get_user_of_unique_use()
        if not isinstance(op, nn.MulOp) or not isinstance(user, nn.AddOp):
            return False
        return self._only_feeds_sum(op) and scaled_by_channel(user) is not None


@dataclass(frozen=True)
class AffineToDepthwisePass(ModulePass):
    """See the module's documentation."""

    name = "affine-to-depthwise"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        apply_patterns(op, AffineToDepthwise())
