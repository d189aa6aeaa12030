"""``recognize-layer-norm``: the decomposition that exporters write becomes ``nn.layer_norm``.

``(d / sqrt(mean(d ** 2) + epsilon)) * scale + bias`` with ``d = x - mean(x)``, the means over the
last axes, constant scale and bias of those axes' sizes, and the square a power or a product.

Law: a bound. With ``d * d`` exact; with a power, each square differs by ``pow``'s error e relative,
so a result differs by at most ``e / 2 + 2**-21`` of its normalised part (the square root halves it,
and the roundings behind it count), next to the unchanged bias.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, f32
from xdsl.ir import SSAValue
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern, op_type_rewrite_pattern

from uqfc.dialects import nn
from uqfc.dialects.tensors import Array, Shape, element_of, int_tuple, shape_of
from uqfc.passes.support.rewriting import (
    apply_patterns,
    constant_of,
    defining,
    is_broadcast_scalar,
    replace_named,
    scalar_of,
)


def with_constant(op: nn.MulOp | nn.AddOp | None) -> Iterator[tuple[SSAValue, SSAValue]]:
    """(operand, constant operand) of a product or sum."""
    if op is None or op.activation is not None:
        return
    for value, other in ((op.lhs, op.rhs), (op.rhs, op.lhs)):
        if constant_of(other) is not None and constant_of(value) is None:
            yield value, other


def mean_of(value: SSAValue) -> tuple[SSAValue, int] | None:
    """``(x, k)`` if the value is x's mean over its last k axes."""
    op = defining(value, nn.ReduceOp)
    if op is None or op.kind.data != "mean" or element_of(op.x) != f32:
        return None
    axes, rank = int_tuple(op.axes), len(shape_of(op.x))
    last = axes == tuple(range(rank - len(axes), rank))
    return (op.x, len(axes)) if last and axes else None


def centred(value: SSAValue) -> tuple[SSAValue, int] | None:
    """``(x, k)`` if the value is ``x - mean(x)`` over the last k axes."""
    op = defining(value, nn.SubOp)
    mean = None if op is None else mean_of(op.rhs)
    return mean if op is not None and mean is not None and mean[0] is op.lhs else None


def squared(value: SSAValue) -> SSAValue | None:
    """``d`` if the value is ``d ** 2`` or ``d * d``."""
    power, product = defining(value, nn.PowOp), defining(value, nn.MulOp)
    if power is not None and scalar_of(power.rhs) == 2.0 and is_broadcast_scalar(power.rhs):
        return power.lhs
    is_square = product is not None and product.lhs is product.rhs and product.activation is None
    return product.lhs if product is not None and is_square else None


def deviation(value: SSAValue) -> tuple[SSAValue, int, float] | None:
    """``(d, k, epsilon)`` if the value is ``sqrt(mean(d ** 2) + epsilon)``."""
    root = defining(value, nn.UnaryOp)
    if root is None or root.fn.data.name != "sqrt":
        return None
    for variance, constant in with_constant(defining(root.x, nn.AddOp)):
        mean, epsilon = mean_of(variance), scalar_of(constant)
        d = None if mean is None else squared(mean[0])
        if mean is not None and d is not None and epsilon is not None:
            return d, mean[1], epsilon
    return None


def normalised(value: SSAValue) -> tuple[SSAValue, int, float] | None:
    """``(x, k, epsilon)`` if the value is x normalised over its last k axes."""
    op = defining(value, nn.DivOp)
    by = None if op is None else deviation(op.rhs)
    if op is None or by is None:
        return None
    above, below = centred(op.lhs), centred(by[0])
    if above is None or above != below or above[1] != by[1]:
        return None
    return above[0], by[1], by[2]


def of_shape(value: SSAValue, shape: Shape) -> Array | None:
    """A constant with axes of size 1 in front removed or added, or None if it has another shape."""
    array = constant_of(value)
    fits = array is not None and array.size > 0
    if array is None or not fits or (1,) * (array.ndim - len(shape)) + shape != array.shape:
        return None
    return array.reshape(shape)


class RecognizeLayerNorm(RewritePattern):
    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: nn.AddOp, rewriter: PatternRewriter, /) -> None:
        for product, bias in with_constant(op):
            for quotient, scale in with_constant(defining(product, nn.MulOp)):
                found = normalised(quotient)
                if found is None:
                    continue
                x, k, epsilon = found
                tail = shape_of(x)[-k:]
                weights, shifts = of_shape(scale, tail), of_shape(bias, tail)
                if weights is None or shifts is None:
                    continue
                a, b = nn.ConstantOp(weights), nn.ConstantOp(shifts)
                rewriter.insert([a, b])
                replace_named(rewriter, op, nn.LayerNormOp(x, a, b, epsilon))
                return


@dataclass(frozen=True)
class RecognizeLayerNormPass(ModulePass):
    """See the module's documentation."""

    name = "recognize-layer-norm"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        apply_patterns(op, RecognizeLayerNorm())
