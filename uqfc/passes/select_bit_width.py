"""``select-bit-width``: a weight type for every layer, with its reason.

Each layer gets the attributes ``weight_dtype`` (one of ``WIDTHS``, or ``float32``), ``requested``
and ``reason``. A weight type that the target lacks falls back to the next wider one; a layer that
``insert-observers`` left alone, because its weights are no constants, stays float32.

Law: exact. Only attributes change.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import FloatAttr, ModuleOp
from xdsl.passes import ModulePass

from uqfc.dialects import nn
from uqfc.dialects.quant import ObserveOp
from uqfc.dialects.quant.decisions import (
    SENSITIVITY,
    Decision,
    Reason,
    decision_of,
    set_decision,
)
from uqfc.passes.support.quantizable import LAYERS
from uqfc.targets import load_target

__all__ = [
    "SENSITIVITY",
    "WIDTHS",
    "Decision",
    "Reason",
    "SelectBitWidthPass",
    "decision_of",
    "narrowest_supported",
    "set_decision",
]

WIDTHS = ("binary", "ternary", "int4", "int8")
"""Types of weights, each of which holds the values of those before it."""


def narrowest_supported(requested: str, supported: Collection[str]) -> str:
    """The first of ``WIDTHS``, from ``requested`` on, that a target has; int8 if it has none."""
    wider = WIDTHS[WIDTHS.index(requested) :]
    return next((dtype for dtype in wider if dtype in supported), WIDTHS[-1])


@dataclass(frozen=True)
class SelectBitWidthPass(ModulePass):
    """``strategy`` is one of ``WIDTHS`` or mixed_int4_int8; ``target`` a name or path.

    ``mixed_int4_int8`` keeps int8 where int4 would lose more than ``tolerance`` of the output's
    power; a layer without that statistic counts as not sensitive.
    """

    name = "select-bit-width"
    strategy: str = "int8"
    target: str = "host"
    tolerance: float = 0.01

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        supported = load_target(self.target).weight_dtypes
        for layer in op.walk():
            if isinstance(layer, LAYERS):
                set_decision(layer, self.decide(layer, supported))

    def decide(self, layer: nn.Conv2dOp | nn.LinearOp, supported: tuple[str, ...]) -> Decision:
        requested = self.strategy if self.strategy in WIDTHS else "int4"
        if not isinstance(layer.x.owner, ObserveOp):
            return Decision(requested, "float32", Reason.NO_KERNEL)
        if requested not in supported:
            chosen = narrowest_supported(requested, supported)
            return Decision(requested, chosen, Reason.UNSUPPORTED_BY_TARGET)
        loss = layer.attributes.get(SENSITIVITY)
        sensitive = isinstance(loss, FloatAttr) and loss.value.data > self.tolerance
        if self.strategy == "mixed_int4_int8" and sensitive:
            return Decision(requested, "int8", Reason.SENSITIVE)
        return Decision(requested, requested, Reason.REQUESTED)
