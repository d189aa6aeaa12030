"""``fold-batch-norm``: per-channel scales and shifts go into the layer before them, or merge.

``s * (conv(x, w) + b) + t`` becomes ``conv(x, s * w) + (s * b + t)``, products and sums in float64,
rounded once to float32. The scale and shift are ``nn.mul`` / ``nn.add`` / ``nn.sub`` / ``nn.div``
with a constant of one value per output channel (or one value at all); the layer has no activation,
no residual and no other reader. Where there is no such layer, ``(x * a) * b`` becomes
``x * (a * b)``, ``(x + a) + b`` becomes ``x + (a + b)``, and ``(x + a) * b`` becomes
``x * b + a * b``: what is left of any chain is one product and one sum. A layer whose weights are
quantized already takes in a sum, if it has no bias.

Law: a bound. Before and after, each term of the sum over K is rounded at most
``r = ceil(K / 16) + 6 + n`` times when n ops were folded (its product, its way through lanes and
tree, bias, each folded op, each rounding of a folded constant), so the two results differ by at
most ``2 * r * 2**-24`` times the sum of the terms' magnitudes (to first order in 2**-24, and as
long as nothing overflows or is denormal).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import SSAValue
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern

from uqfc.dialects import nn
from uqfc.dialects.quant import DcastOp
from uqfc.dialects.tensors import shape_of
from uqfc.numerics import F64
from uqfc.passes.support.quantizable import LAYERS
from uqfc.passes.support.rewriting import (
    apply_patterns,
    constant_of,
    with_operand_list,
)

AFFINE = (nn.MulOp, nn.AddOp, nn.SubOp, nn.DivOp)


def per_channel(value: SSAValue, result: tuple[int, ...]) -> F64 | None:
    """A constant as one float64 per channel (last axis of ``result``), or None."""
    array = constant_of(value)
    if array is None or array.dtype != np.float32 or not result or array.ndim > len(result):
        return None
    if any(d != 1 for d in array.shape[:-1]) or array.size not in (1, result[-1]):
        return None
    return np.broadcast_to(array.reshape(-1).astype(np.float64), (result[-1],))


def scale_and_shift(op: nn.BinaryOp, layer_left: bool, c: F64) -> tuple[F64, F64] | None:
    """``(s, t)`` with ``op == s * layer + t``; None for a constant divided by the layer."""
    one, zero = np.ones_like(c), np.zeros_like(c)
    match op:
        case nn.MulOp():
            return c, zero
        case nn.AddOp():
            return one, c
        case nn.SubOp():
            return (one, -c) if layer_left else (-one, c)
        case nn.DivOp():
            return (1.0 / c, zero) if layer_left and bool(np.all(c != 0)) else None
        case _:
            return None


class FoldAffine(RewritePattern):
    def match_and_rewrite(self, op: object, rewriter: PatternRewriter) -> None:
        if not isinstance(op, AFFINE):
            return
        for value, other, layer_left in ((op.lhs, op.rhs, True), (op.rhs, op.lhs, False)):
            layer = value.owner
            constant = per_channel(other, shape_of(op.result))
            if not isinstance(layer, LAYERS) or constant is None or not is_plain(layer):
                continue
            factors = scale_and_shift(op, layer_left, constant)
            if factors is not None and shape_of(op.result) == shape_of(value):
                self.fold(op, layer, *factors, rewriter)
                return

    @staticmethod
    def fold(
        op: nn.BinaryOp, layer: nn.Layer, scale: F64, shift: F64, rewriter: PatternRewriter
    ) -> None:
        weight, bias = constant_of(layer.weight), constant_of(layer.bias)
        assert weight is not None
        spread = scale.reshape(-1, *[1] * (weight.ndim - 1))
        new_weight = nn.ConstantOp((weight.astype(np.float64) * spread).astype(np.float32))
        old_bias = np.zeros(len(scale)) if bias is None else bias.astype(np.float64)
        new_bias = nn.ConstantOp((old_bias * scale + shift).astype(np.float32))
        fused = with_operand_list(layer, weight=new_weight, bias=new_bias)
        activation = op.properties.get("activation")
        if activation is not None:
            fused.properties["activation"] = activation
        rewriter.replace(op, [new_weight, new_bias, fused])
        rewriter.erase(layer)


def constant_and_value(op: nn.MulOp | nn.AddOp) -> tuple[F64, SSAValue] | None:
    """The constant operand in float64 and the other one, which has the result's shape."""
    for value, other in ((op.lhs, op.rhs), (op.rhs, op.lhs)):
        array = constant_of(other)
        fits = array is not None and array.dtype == np.float32 and constant_of(value) is None
        if array is not None and fits and shape_of(value) == shape_of(op.result):
            return array.astype(np.float64), value
    return None


class MergeAffine(RewritePattern):
    """Two products or sums with constants become one; a product of a sum, a sum of a product."""

    def match_and_rewrite(self, op: object, rewriter: PatternRewriter) -> None:
        outer = constant_and_value(op) if isinstance(op, nn.MulOp | nn.AddOp) else None
        inner = None if outer is None else outer[1].owner
        if not isinstance(op, nn.MulOp | nn.AddOp) or not isinstance(inner, nn.MulOp | nn.AddOp):
            return
        split = constant_and_value(inner)
        already = isinstance(op, nn.AddOp) and isinstance(inner, nn.MulOp)
        if outer is None or split is None or already:
            return
        if inner.activation is not None or not inner.result.has_one_use():
            return
        (b, _), (a, x) = outer, split
        added: list[nn.TensorOp] = []
        if isinstance(op, nn.MulOp) and isinstance(inner, nn.AddOp):
            factor = nn.ConstantOp(b.astype(np.float32))
            product = nn.MulOp(x, factor)
            product.attributes.update(inner.attributes)
            added += [factor, product]
            x = product.result
        constant = nn.ConstantOp(
            np.asarray(a + b if isinstance(op, nn.AddOp) else a * b, np.float32)
        )
        merged = type(inner)(x, constant)
        merged.attributes.update(inner.attributes)
        merged.attributes.update(op.attributes)
        if op.activation is not None:
            merged.properties["activation"] = op.activation
        rewriter.insert(added)
        rewriter.insert(constant)
        rewriter.replace(op, merged)
        rewriter.erase(inner)


def is_plain(layer: nn.Layer) -> bool:
    """Constant weights, nothing after the bias, one reader."""
    constant = constant_of(layer.weight) is not None
    constant = constant and (layer.bias is None or constant_of(layer.bias) is not None)
    untouched = layer.activation is None and layer.residual is None
    return constant and untouched and layer.result.uses.get_length() == 1


class AddBias(RewritePattern):
    """``layer(x) + b`` of a layer that came with quantized weights and no bias: ``b`` is its bias.

    Its weights cannot be scaled, and need not be. Exact: a layer adds its bias last.
    """

    def match_and_rewrite(self, op: object, rewriter: PatternRewriter) -> None:
        if not isinstance(op, nn.AddOp):
            return
        for value, other in ((op.lhs, op.rhs), (op.rhs, op.lhs)):
            layer = value.owner
            constant = per_channel(other, shape_of(op.result))
            if not isinstance(layer, LAYERS) or constant is None or not lacks_bias(layer):
                continue
            bias = nn.ConstantOp(np.ascontiguousarray(constant, np.float32))
            fused = with_operand_list(layer, bias=bias, activation=op.activation)
            rewriter.replace(op, [bias, fused])
            rewriter.erase(layer)
            return


def lacks_bias(layer: nn.Layer) -> bool:
    """Quantized weights, nothing after the product, one reader."""
    untouched = layer.activation is None and layer.residual is None and layer.bias is None
    return untouched and isinstance(layer.weight.owner, DcastOp) and layer.result.has_one_use()


@dataclass(frozen=True)
class FoldBatchNormPass(ModulePass):
    """See the module's documentation."""

    name = "fold-batch-norm"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        apply_patterns(op, FoldAffine(), AddBias(), MergeAffine())
