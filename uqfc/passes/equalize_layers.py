"""``equalize-layers``: cross-layer equalization of weight ranges.

Where a layer's only reader is another layer and nothing, ReLU or leaky ReLU lies between, each
channel's weights are scaled by a power of two on one side and by its inverse on the other, so that
their ranges agree (``calibration.equalize``). Not needed for int8, it is what lets some networks
live with int4.

Law: exact. Scaling by powers of two commutes with every float operation involved, short of
overflow and denormals.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass
from xdsl.rewriter import InsertPoint, Rewriter

from uqfc.calibration import equalize
from uqfc.dialects import nn
from uqfc.dialects.tensors import Array, shape_of
from uqfc.passes.support.quantizable import LAYERS
from uqfc.passes.support.rewriting import constant_of

HOMOGENEOUS = ("relu", "leaky_relu")
"""Activations with ``f(s * x) == s * f(x)`` for s > 0."""


def next_layer(first: nn.Layer) -> nn.Layer | None:
    """The layer that alone reads ``first`` and whose input channels are first's outputs."""
    activation = first.activation
    if activation is not None and activation.data.name not in HOMOGENEOUS:
        return None
    if first.residual is not None or first.result.uses.get_length() != 1:
        return None
    use = next(iter(first.result.uses))
    second = use.operation
    if not isinstance(second, LAYERS) or use.index != 0:
        return None
    dense = isinstance(second, nn.LinearOp) or second.groups.value.data == 1
    depthwise = isinstance(second, nn.Conv2dOp) and second.is_depthwise
    same_rank = len(shape_of(first.weight)) == len(shape_of(second.weight))
    return second if same_rank and (dense or depthwise) else None


def array_of(layer: nn.Layer, index: int) -> Array | None:
    """A constant operand's array, if nobody else reads it."""
    value = layer.operands[index]
    return constant_of(value) if value.has_one_use() else None


def replace_constant(layer: nn.Layer, index: int, array: Array) -> None:
    old = layer.operands[index].owner
    constant = nn.ConstantOp(np.ascontiguousarray(array, np.float32))
    Rewriter.insert_op(constant, InsertPoint.before(layer))
    layer.operands[index] = constant.result
    if isinstance(old, nn.ConstantOp):
        Rewriter.erase_op(old)


@dataclass(frozen=True)
class EqualizeLayersPass(ModulePass):
    """See the module's documentation."""

    name = "equalize-layers"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for first in [o for o in op.walk() if isinstance(o, LAYERS)]:
            second = next_layer(first)
            if second is None:
                continue
            w1, w2 = array_of(first, 1), array_of(second, 1)
            b1 = None if first.bias is None else array_of(first, 2)
            if w1 is None or w2 is None or (first.bias is not None and b1 is None):
                continue
            equal = equalize(np.asarray(w1), b1, np.asarray(w2))
            replace_constant(first, 1, equal.w1)
            replace_constant(second, 1, equal.w2)
            if equal.b1 is not None:
                replace_constant(first, 2, equal.b1)
