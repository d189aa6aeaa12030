"""``select-bit-width``: a weight type for every layer, with its reason.

Each layer gets the attributes ``weight_dtype`` (one of ``WIDTHS``, or ``float32``), ``requested``
and ``reason``. A weight type that the target lacks falls back to the next wider one; a layer that
``insert-observers`` left alone, because its weights are no constants, stays float32.

Law: exact. Only attributes change.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

from xdsl.context import Context
from xdsl.dialects.builtin import FloatAttr, ModuleOp, StringAttr
from xdsl.ir import Operation
from xdsl.passes import ModulePass

from uqfc.dialects import nn
from uqfc.dialects.quant import ObserveOp
from uqfc.passes.support.quantizable import LAYERS
from uqfc.targets import load_target


class Reason(StrEnum):
    """Why a layer has the type it has; stored in the artifact."""

    REQUESTED = "requested"
    SENSITIVE = "sensitive"
    UNSUPPORTED_BY_TARGET = "unsupported_by_target"
    NO_KERNEL = "no_kernel"
    SLOWER = "slower"
    WOULD_SATURATE = "would_saturate"
    ACCURACY_CONSTRAINT = "accuracy_constraint"
    LATENCY_CONSTRAINT = "latency_constraint"


@dataclass(frozen=True)
class Decision:
    """What was asked for a layer, what it got, and why."""

    requested: str
    chosen: str
    reason: Reason

    @property
    def is_fallback(self) -> bool:
        return self.requested != self.chosen


def set_decision(op: Operation, decision: Decision) -> None:
    op.attributes["requested"] = StringAttr(decision.requested)
    op.attributes["weight_dtype"] = StringAttr(decision.chosen)
    op.attributes["reason"] = StringAttr(decision.reason)


def decision_of(op: Operation) -> Decision | None:
    """The decision that an op carries, if any."""
    found = [op.attributes.get(k) for k in ("requested", "weight_dtype", "reason")]
    texts = [a.data for a in found if isinstance(a, StringAttr)]
    return Decision(texts[0], texts[1], Reason(texts[2])) if len(texts) == 3 else None


WIDTHS = ("binary", "ternary", "int4", "int8")
"""Types of weights, each of which holds the values of those before it."""


def narrowest_supported(requested: str, supported: Collection[str]) -> str:
    """The first of ``WIDTHS``, from ``requested`` on, that a target has; int8 if it has none."""
    wider = WIDTHS[WIDTHS.index(requested) :]
    return next((dtype for dtype in wider if dtype in supported), WIDTHS[-1])


SENSITIVITY = "sensitivity_int4"
"""Attribute: share of a layer's output power that int4 weights lose (from calibration)."""


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
