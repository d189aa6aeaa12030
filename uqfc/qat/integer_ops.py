"""Ops on quantized values without weights, as the deployed network computes them."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor
from xdsl.ir import Operation

from uqfc.dialects import nn
from uqfc.numerics import Activation
from uqfc.qat.estimators import Estimator
from uqfc.qat.exact import Exact, ExactProduct, centred, integers, multiplier, table
from uqfc.qat.float_ops import activated, evaluate, window_sums
from uqfc.qat.rounding import RoundClamp, limits
from uqfc.qat.values import Scheme, Value


def integer_value(
    op: Operation, inputs: Sequence[Value], scheme: Scheme, estimator: Estimator
) -> Value:
    """The op's quantized result for a point."""
    if isinstance(op, nn.ConcatOp) and all(x.scheme is scheme for x in inputs):
        return concatenated(op, inputs, scheme)
    fused = op.properties.get("activation")
    clamp = fused.data if isinstance(fused, nn.FnAttr) else None
    v = in_units(op, inputs, scheme)
    real, q = RoundClamp.apply(v, scheme.scale, limits(scheme, clamp, estimator, v[0].numel()))
    return Value(real, q, scheme)


def concatenated(op: nn.ConcatOp, inputs: Sequence[Value], scheme: Scheme) -> Value:
    """Of one scheme: integers stay what they are."""
    real = evaluate(op, [x.real for x in inputs])
    return Value(real, torch.cat([integers(x) for x in inputs], op.axis.value.data), scheme)


def in_units(op: Operation, inputs: Sequence[Value], scheme: Scheme) -> Tensor:
    """The result, before the fused clamp, in units of the point's scale."""
    unit = scheme.scale.detach()
    match op:
        case nn.MulOp():
            a, b = inputs
            if a.real.numel() < b.real.numel():
                a, b = b, a
            factor = multiplier(a.scale, b.scale, over=unit)
            return ExactProduct.apply(a.real, b.real, centred(a), centred(b), factor, unit)
        case nn.AddOp() | nn.SubOp():
            left = centred(inputs[0]).mul_(multiplier(inputs[0].scale, over=unit))
            right = centred(inputs[1]).mul_(multiplier(inputs[1].scale, over=unit))
            add = isinstance(op, nn.AddOp)
            a, b = inputs[0].real, inputs[1].real
            exact = left + right if add else left - right
            return Exact.apply(a + b if add else a - b, exact, unit)
        case nn.ReduceOp():
            x = inputs[0]
            count = prod(x.real.shape[1:3])
            sums = centred(x).sum((1, 2), keepdim=True)
            exact = sums.mul_(multiplier(x.scale, 1.0 / count, over=unit))
            return Exact.apply(evaluate(op, [x.real]), exact, unit)
        case nn.AvgPool2dOp():
            x = inputs[0]
            sums, count = window_sums(op, centred(x))
            exact = sums.mul_(multiplier(x.scale, 1.0 / count.double(), over=unit))
            return Exact.apply(evaluate(op, [x.real]), exact, unit)
        case nn.UnaryOp():
            x = inputs[0]
            entries = in_table(x, scheme, op.fn.data)
            return Exact.apply(activated(x.real, op.fn), entries, unit)
        case nn.ConcatOp():
            levels = [centred(x) if x.scheme is scheme else in_table(x, scheme) for x in inputs]
            exact = torch.cat(levels, op.axis.value.data)
            return Exact.apply(evaluate(op, [x.real for x in inputs]), exact, unit)
        case _:
            raise ValueError(f"{op.name} has no integer form in training")


def in_table(x: Value, scheme: Scheme, function: Activation | None = None) -> Tensor:
    """``exact.table`` for a point."""
    return table(x, scheme.scale.detach(), scheme.zero_point, scheme.point.qmax, function)
