"""Attributes of a layer that say which weight type it has, and why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from xdsl.dialects.builtin import ModuleOp, StringAttr
from xdsl.ir import Operation

from uqfc.errors import FallbackError


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


def decisions_in(module: ModuleOp) -> Iterator[tuple[str, Decision]]:
    """Layers' names, and what was decided for them."""
    for op in module.walk():
        decision = decision_of(op)
        if decision is not None:
            yield getattr(op.attributes.get("layer"), "data", op.name), decision


def check_no_fallback(decisions: Iterable[tuple[str, Decision]], target: str) -> None:
    """FallbackError that lists every layer (by name) without the type that was asked for."""
    lines = [
        f"  {name}: requested {each.requested}, got {each.chosen} ({each.reason})"
        for name, each in decisions
        if each.is_fallback
    ]
    if lines:
        raise FallbackError(f"target {target}: {len(lines)} fallback(s)\n" + "\n".join(lines))


SENSITIVITY = "sensitivity_int4"
"""Attribute: share of a layer's output power that int4 weights lose (from calibration)."""
