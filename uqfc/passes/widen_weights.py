"""``widen-weights``: weight types that a target lacks become wider ones that it has.

A model may bring its own quantization. Where its weights are of a type that is not among the
target's, the decision of the layer says so: the next wider type that the target has was chosen,
``unsupported_by_target``. Narrow integers are then held as 8-bit ones, less their zero point, and
2-bit ones where 4 bits are chosen as they are. For a target that has 8-bit floats instead of
integers there is no such type, and a TargetError says so.

Law: exact. ``w - zero_point`` does not change. Runs after ``canonicalize-weights``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass
from xdsl.rewriter import InsertPoint, Rewriter

from uqfc.dialects import nn
from uqfc.dialects.qnn import IntegerLayerOp
from uqfc.dialects.tensors import element_of, ui2, ui4
from uqfc.errors import TargetError
from uqfc.passes.canonicalize_weights import centred_weight
from uqfc.passes.select_bit_width import (
    WIDTHS,
    Decision,
    Reason,
    decision_of,
    narrowest_supported,
    set_decision,
)
from uqfc.passes.support.quantizable import table_op
from uqfc.passes.support.rewriting import constant_of
from uqfc.targets import load_target


def widen(layer: IntegerLayerOp, dtype: str = "int8") -> None:
    """Narrow weights as ``i8`` with zero point 0, as their distances are within -15:15, for int8;
    else 2-bit ones as ``ui4``."""
    weight, zero_point = constant_of(layer.weight), constant_of(layer.weight_zero_point)
    before = [layer.weight.owner, layer.weight_zero_point.owner]
    if weight is None or zero_point is None or element_of(layer.weight) not in (ui2, ui4):
        return
    if dtype == "int8":
        centred = centred_weight(weight.astype(np.int32), zero_point)
        added = [nn.ConstantOp(centred.astype(np.int8)), nn.ConstantOp(np.zeros_like(zero_point))]
    else:
        added = [nn.ConstantOp(weight, ui4), nn.ConstantOp(zero_point)]
    Rewriter.insert_op(added, InsertPoint.before(layer))
    layer.operands[1], layer.operands[2] = (constant.result for constant in added)
    for constant in before:
        if isinstance(constant, nn.ConstantOp) and constant.result.first_use is None:
            Rewriter.erase_op(constant)


@dataclass(frozen=True)
class WidenWeightsPass(ModulePass):
    """``target`` is a name or path."""

    name = "widen-weights"
    target: str = "host"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        table = load_target(self.target)
        for layer in [o for o in op.walk() if isinstance(o, IntegerLayerOp)]:
            decision, supported = decision_of(layer), table.weights_for(table_op(layer))
            if decision is None or decision.chosen not in WIDTHS or decision.chosen in supported:
                continue
            chosen = narrowest_supported(decision.chosen, supported)
            if chosen not in WIDTHS:
                raise TargetError(
                    f"target {self.target} has no integers, but layer '{layer.layer}' came with "
                    f"{decision.chosen} weights; the float model would be quantized to {chosen}"
                )
            reason = Reason.UNSUPPORTED_BY_TARGET
            set_decision(layer, Decision(decision.requested, chosen, reason))
            widen(layer, chosen)
