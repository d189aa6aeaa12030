"""Ops on quantized values without weights, as the deployed network computes them."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from torch import Tensor
from xdsl.ir import Operation

from uqfc.dialects import nn
from uqfc.qat.estimators import Estimator
from uqfc.qat.exact import Exact, ExactProduct, centred, multiplier, table
from uqfc.qat.float_ops import activated, evaluate
from uqfc.qat.rounding import RoundClamp, limits
from uqfc.qat.values import Scheme, Value


def integer_value(
    op: Operation, inputs: Sequence[Value], scheme: Scheme, estimator: Estimator
) -> Value:
    """The op's quantized result for a point."""
    fused = op.properties.get("activation")
    clamp = fused.data if isinstance(fused, nn.FnAttr) else None
    v = in_units(op, inputs, scheme)
    real, q = RoundClamp.apply(v, scheme.scale, limits(scheme, clamp, estimator, v[0].numel()))
    return Value(real, q, scheme)


def in_units(op: Operation, inputs: Sequence[Value], scheme: Scheme) -> Tensor:
    """The result, before the fused clamp, in units of the point's scale."""
    unit = scheme.scale.detach()
    match op:
        case nn.MulOp():
            a, b = inputs
            if a.real.numel() < b.real.numel():
                a, b = b, a
            factor = multiplier(scale_of(a), scale_of(b), over=unit)
            return ExactProduct.apply(a.real, b.real, centred(a), centred(b), factor, unit)
        case nn.AddOp() | nn.SubOp():
            left = centred(inputs[0]).mul_(multiplier(scale_of(inputs[0]), over=unit))
            right = centred(inputs[1]).mul_(multiplier(scale_of(inputs[1]), over=unit))
            add = isinstance(op, nn.AddOp)
            a, b = inputs[0].real, inputs[1].real
            exact = left + right if add else left - right
            return Exact.apply(a + b if add else a - b, exact, unit)
        case nn.ReduceOp():
            x = inputs[0]
            count = prod(x.real.shape[1:3])
            sums = centred(x).sum((1, 2), keepdim=True)
            exact = sums.mul_(multiplier(scale_of(x), 1.0 / count, over=unit))
            return Exact.apply(evaluate(op, [x.real]), exact, unit)
        case nn.UnaryOp():
            x, function = inputs[0], op.fn.data
            qmax = scheme.point.qmax
            entries = table(x, unit, scheme.zero_point, qmax, function)
            return Exact.apply(activated(x.real, op.fn), entries, unit)
        case _:
            result = evaluate(op, [each.real for each in inputs])
            return Exact.apply(result, result.detach() / unit, unit)


def scale_of(value: Value) -> Tensor:
    assert value.scheme is not None
    return value.scheme.scale
