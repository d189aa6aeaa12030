"""What a search found: the configuration, its reasons, the Pareto front, and how far it may be
from the optimum."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from uqfc.codegen.artifact import write_atomically
from uqfc.dialects.quant.decisions import Decision
from uqfc.model import CompiledModel
from uqfc.search.constraints import Constraints, Metric
from uqfc.search.evaluation import Outcome
from uqfc.search.pareto import non_dominated
from uqfc.search.plot import scatter


@dataclass(frozen=True)
class Candidate:
    """A configuration that was compiled and evaluated. ``label``: e.g. ``uniform int4``."""

    configuration: Mapping[str, str] = field(repr=False)
    outcome: Outcome
    label: str = ""
    pareto: bool = False

    @property
    def types(self) -> str:
        """How many layers have which type."""
        counts = Counter(self.configuration.values())
        return ", ".join(f"{count} {dtype}" for dtype, count in counts.most_common())


@dataclass(frozen=True)
class Optimality:
    """Of the chosen configuration, by the calibrated surrogate: no configuration that it holds to
    be within the limits has an objective below ``bound``.

    The objective is bytes, milliseconds, or, of the accuracy, the predicted loss. ``gap``: the
    difference as a share of ``value``.
    """

    objective: Metric
    value: float
    bound: float

    @property
    def gap(self) -> float:
        return (self.value - self.bound) / abs(self.value) if self.value else 0.0


@dataclass(frozen=True)
class Unmet:
    """A constraint that fails, in its metric's unit.

    ``best``: the nearest to the limit that was seen in a true evaluation, whatever the others.
    ``alone``: the nearest that is predicted without other constraints; ``with_others``: with them,
    None where they contradict each other. ``fails_by``: how far ``with_others``, or else ``alone``,
    is from the limit; 0 for a constraint that can be met.
    """

    metric: Metric
    limit: float
    best: float | None
    alone: float | None
    with_others: float | None
    fails_by: float | None


@dataclass(frozen=True)
class Infeasibility:
    """Why no configuration that was evaluated meets all constraints, and the nearest ones."""

    unmet: tuple[Unmet, ...]
    nearest: tuple[Candidate, ...]


@dataclass(frozen=True)
class SearchResult:
    """``feasible`` says whether ``configuration``, ``decisions`` and ``model`` are there."""

    feasible: bool
    configuration: Mapping[str, str] | None
    decisions: Mapping[str, Decision] | None
    model: CompiledModel | None = field(repr=False)
    chosen: Candidate | None
    constraints: Constraints
    objective: Metric
    method: str
    seed: int
    combinations: int
    reference_accuracy: float | None
    """Of the network in float32."""
    candidates: tuple[Candidate, ...] = field(repr=False)
    """All true evaluations, in order."""
    optimality: Optimality | None
    infeasibility: Infeasibility | None
    fresh: int
    """Evaluations that did not come from the journal."""
    notes: tuple[str, ...] = ()

    @property
    def front(self) -> tuple[Candidate, ...]:
        """The candidates that no other one dominates, the smallest first."""
        members = [each for each in self.candidates if each.pareto]
        return tuple(sorted(members, key=lambda each: each.outcome.size or 0))

    def pareto(self) -> str:
        """The front, uniform types and the choice as a table in plain text."""
        return "\n".join("  ".join(line).rstrip() for line in _aligned(self.rows()))

    def rows(self) -> list[tuple[str, ...]]:
        """The table with its head: accuracy in percent, bytes, milliseconds, types."""
        head = ("", "accuracy %", "bytes", "ms", "front", "types")
        shown = [c for c in self.candidates if c.pareto or c.label or c is self.chosen]
        shown.sort(key=lambda each: each.outcome.size or 0)
        lines: list[tuple[str, ...]] = [head]
        for each in shown:
            label = ", ".join(n for n in (each.label, "chosen" * (each is self.chosen)) if n)
            lines.append((label, *_figures(each.outcome), "*" if each.pareto else "", each.types))
        if self.reference_accuracy is not None:
            lines.append(("float32", f"{100 * self.reference_accuracy:.2f}", "", "", "", ""))
        return lines

    def document(self) -> dict[str, Any]:
        """JSON values: everything but the compiled model."""
        decisions = self.decisions or {}
        return {
            "feasible": self.feasible,
            "constraints": asdict(self.constraints),
            "objective": str(self.objective),
            "method": self.method,
            "seed": self.seed,
            "combinations": str(self.combinations),  # more than a float holds
            "reference_accuracy": self.reference_accuracy,
            "chosen": None if self.chosen is None else _document(self.chosen),
            "layers": {name: _decision(each) for name, each in decisions.items()},
            "optimality": None
            if self.optimality is None
            else {**asdict(self.optimality), "gap": self.optimality.gap},
            "infeasibility": None
            if self.infeasibility is None
            else {
                "unmet": [asdict(each) for each in self.infeasibility.unmet],
                "nearest": [_document(each) for each in self.infeasibility.nearest],
            },
            "candidates": [_document(each) for each in self.candidates],
            "fresh": self.fresh,
            "notes": list(self.notes),
        }

    def save(self, path: str | Path) -> None:
        """Write the document as JSON."""
        text = json.dumps(self.document(), indent=2, allow_nan=False) + "\n"
        write_atomically({Path(path): [text.encode()]})

    def plot(self, path: str | Path) -> None:
        """Write accuracy over size of all candidates as SVG."""
        write_atomically({Path(path): [self.svg().encode()]})

    def svg(self) -> str:
        """Accuracy in percent over kilobytes: all candidates, the front, uniform types, the
        choice and the limits."""
        good = [c for c in self.candidates if c.outcome.accuracy is not None]
        limits = self.constraints
        return scatter(
            [
                (
                    (c.outcome.size or 0) / 1e3,
                    100 * (c.outcome.accuracy or 0.0),
                    "chosen" if c is self.chosen else c.label,
                    c.pareto,
                )
                for c in good
            ],
            x_label="constants, kB",
            y_label="accuracy, %",
            x_limit=None if limits.size is None else limits.size / 1e3,
            y_limit=None if limits.accuracy is None else 100 * limits.accuracy,
        )


def with_front(candidates: list[Candidate]) -> tuple[Candidate, ...]:
    """The same, marked where no other one dominates: more accuracy, fewer bytes, less time."""
    good = [c for c in candidates if c.outcome.accuracy is not None]
    if not good:
        return tuple(candidates)
    timed = all(c.outcome.latency is not None for c in good)
    points = np.array(
        [
            [-(c.outcome.accuracy or 0.0), c.outcome.size or 0]
            + ([c.outcome.latency or 0.0] if timed else [])
            for c in good
        ]
    )
    marked = {id(c) for c, fine in zip(good, non_dominated(points), strict=True) if fine}
    return tuple(
        Candidate(c.configuration, c.outcome, c.label, id(c) in marked) for c in candidates
    )


def _figures(outcome: Outcome) -> tuple[str, str, str]:
    accuracy = "failed" if outcome.accuracy is None else f"{100 * outcome.accuracy:.2f}"
    size = "" if outcome.size is None else f"{outcome.size:,}"
    return accuracy, size, "" if outcome.latency is None else f"{outcome.latency:.4f}"


def _aligned(rows: list[tuple[str, ...]]) -> list[list[str]]:
    """Columns of one width; numbers to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        [
            cell.rjust(width) if 1 <= i <= 3 else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        for row in rows
    ]


def _document(candidate: Candidate) -> dict[str, Any]:
    return {
        "configuration": dict(candidate.configuration),
        **asdict(candidate.outcome),
        "label": candidate.label,
        "pareto": candidate.pareto,
    }


def _decision(decision: Decision) -> dict[str, str]:
    return {
        "requested": decision.requested,
        "chosen": decision.chosen,
        "reason": str(decision.reason),
    }
