"""All true evaluations of a search: those of the journal, and new ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from uqfc.measurements import cpu
from uqfc.search.constraints import Metric
from uqfc.search.costs import F64
from uqfc.search.evaluation import Configuration, Outcome
from uqfc.search.jobs import Workers
from uqfc.search.journal import Journal
from uqfc.search.space import Row, Rows, SearchSpace, stacked

Latency = Callable[[Configuration], float]
"""Milliseconds of a configuration, measured on this machine."""
OUTCOME_FIELDS = {"accuracy": (int, float), "size": int, "error": str}


@dataclass
class Evaluations:
    """In the order in which they were asked for, each once."""

    space: SearchSpace
    journal: Journal
    workers: Workers
    latency: Latency | None = None
    report: Callable[[Evaluations], None] | None = None
    """Called after every evaluation, and when a batch is complete."""
    rows: list[Row] = field(default_factory=list[Row])
    outcomes: list[Outcome] = field(default_factory=list[Outcome])
    fresh: int = 0
    """How many did not come from the journal."""

    def __len__(self) -> int:
        return len(self.rows)

    def add(self, rows: Rows) -> None:
        """Evaluate rows that were not evaluated yet. Each outcome is in the journal as soon as it
        is there; latencies are measured when no worker computes."""
        known, new = self.known, list[Row]()
        for row in rows:
            if row.tobytes() not in known:
                known.add(row.tobytes())
                new.append(row)
        configurations = [self.space.configuration(row) for row in new]
        outcomes = {i: self.recorded(each) for i, each in enumerate(configurations)}
        missing = [i for i, outcome in outcomes.items() if outcome is None]
        for place, outcome in self.workers.evaluate([configurations[i] for i in missing]):
            outcomes[missing[place]] = outcome
            self.fresh += 1
            self.journal.add(key_of(configurations[missing[place]]), document_of(outcome))
            self.tell()
        for i, row in enumerate(new):
            outcome = outcomes[i]
            assert outcome is not None
            self.rows.append(row)
            self.outcomes.append(self.timed(configurations[i], outcome))
        self.tell()

    def tell(self) -> None:
        if self.report is not None:
            self.report(self)

    @property
    def known(self) -> set[bytes]:
        """Rows that were evaluated, as bytes."""
        return {row.tobytes() for row in self.rows}

    def recorded(self, configuration: Configuration) -> Outcome | None:
        """What the journal has."""
        record = self.journal.find(key_of(configuration))
        return None if record is None else outcome_of(record)

    def timed(self, configuration: Configuration, outcome: Outcome) -> Outcome:
        """With its latency on a processor of this kind, from the journal if it is there."""
        if self.latency is None or outcome.accuracy is None:
            return outcome
        key = f"latency {cpu()}: {key_of(configuration)}"
        record = self.journal.find(key)
        value: Any = None if record is None else record.get("milliseconds")
        if not isinstance(value, float):
            value = self.latency(configuration)
            self.journal.add(key, {"milliseconds": value})
        return Outcome(outcome.accuracy, outcome.size, value)

    @property
    def good(self) -> list[int]:
        """Places of evaluations that have an accuracy."""
        return [i for i, outcome in enumerate(self.outcomes) if outcome.accuracy is not None]

    def metrics(self, places: Sequence[int]) -> tuple[Rows, dict[Metric, F64]]:
        """Rows and figures of good evaluations; NaN for what was not measured."""
        outcomes = [self.outcomes[i] for i in places]
        columns = {
            Metric.ACCURACY: [o.accuracy for o in outcomes],
            Metric.LATENCY: [o.latency for o in outcomes],
            Metric.SIZE: [o.size for o in outcomes],
        }
        rows = stacked((self.rows[i] for i in places), len(self.space.layers))
        return rows, {metric: np.array(c, np.float64) for metric, c in columns.items()}


def key_of(configuration: Configuration) -> str:
    """Of the journal: the types, in the order of the layers."""
    return " ".join(configuration.values())


def document_of(outcome: Outcome) -> dict[str, Any]:
    """Without the latency, which has a record of its own, as it is of one machine."""
    return {"accuracy": outcome.accuracy, "size": outcome.size, "error": outcome.error}


def outcome_of(record: Mapping[str, Any]) -> Outcome | None:
    """The inverse; None for a record that is not as ``document_of`` writes it."""
    for name, kind in OUTCOME_FIELDS.items():
        value = record.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, kind)):
            return None
    if (record.get("accuracy") is None) == (record.get("error") is None):
        return None
    return Outcome(record.get("accuracy"), record.get("size"), None, record.get("error"))
