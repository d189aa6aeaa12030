"""Attributes of a layer that say which weight type it has, and why."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from xdsl.dialects.builtin import StringAttr
from xdsl.ir import Operation


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
    SIZE_CONSTRAINT = "size_constraint"


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


SENSITIVITY = "sensitivity_int4"
"""Attribute: share of a layer's output power that int4 weights lose (from calibration)."""
