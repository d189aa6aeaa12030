"""A world without a compiler: true accuracies, sizes and latencies of configurations by formulas
that the surrogate knows in part."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np

from tests.search.instances import space_of
from uqfc.calibrated import Calibrated
from uqfc.search.answer import answer
from uqfc.search.constraints import Constraints, Goal, Metric, default_objective
from uqfc.search.costs import CostModel, Pair
from uqfc.search.evaluation import Configuration, Outcome
from uqfc.search.evaluations import Evaluations
from uqfc.search.jobs import Workers
from uqfc.search.journal import Journal
from uqfc.search.loop import Setting, planners_of, run
from uqfc.search.result import SearchResult
from uqfc.search.space import Rows, SearchSpace
from uqfc.search.surrogate import Surrogate

LAYERS = 7


@dataclass
class World:
    """``evaluate`` counts; it stops by KeyboardInterrupt after ``patience`` evaluations."""

    seed: int = 0
    patience: int = 1000
    failing: str = "?"
    """Configurations whose key ends so have no accuracy."""
    count: int = 0
    notes: list[str] = field(default_factory=list[str])

    def __post_init__(self) -> None:
        random = np.random.default_rng(self.seed)
        self.space: SearchSpace = space_of((3,) * LAYERS)
        sensitivity = random.lognormal(-3, 1, LAYERS)
        self.loss = CostModel(tuple(s * np.array([0.0, 0.1, 1.0]) for s in sensitivity))
        pairs = tuple(
            Pair(i, i + 1, 0.3 * sensitivity[i] * random.random((3, 3))) for i in range(LAYERS - 1)
        )
        self.truth = CostModel(self.loss.unary, pairs)
        weights = random.integers(1, 50, LAYERS) * 64.0
        self.size = CostModel(tuple(w * np.array([4.0, 2.0, 1.0]) for w in weights), (), 640.0)
        self.latency = CostModel(tuple(w / 1e4 * np.array([1.0, 0.9, 1.1]) for w in weights))

    def accuracy(self, rows: Rows) -> Any:
        return 0.95 * np.exp(-self.truth(rows))

    def evaluate(self, configurations: Sequence[Configuration]) -> Iterator[tuple[int, Outcome]]:
        for place, configuration in reversed(list(enumerate(configurations))):
            if self.count == self.patience:
                raise KeyboardInterrupt
            self.count += 1
            row = self.space.row(configuration)[None]
            size = int(self.size(row)[0])
            if " ".join(configuration.values()).endswith(self.failing):
                yield place, Outcome(None, size, error="evaluate raised ValueError: no")
            else:
                yield place, Outcome(float(self.accuracy(row)[0]), size)

    def milliseconds(self, configuration: Configuration) -> float:
        return 0.05 + self.latency.one(self.space.row(configuration))

    def search(
        self,
        constraints: Constraints,
        method: str = "auto",
        *,
        budget: int = 24,
        seed: int = 0,
        journal: Path | None = None,
        objective: Metric | None = None,
        seconds: float = math.inf,
    ) -> SearchResult:
        """As ``search_bit_width`` does it."""
        goal = Goal(constraints, objective or default_objective(constraints))
        timed = constraints.latency is not None or goal.objective == Metric.LATENCY
        workers = cast("Workers", self)
        book = Journal(journal, {"world": self.seed})
        evaluations = Evaluations(self.space, book, workers)
        if timed:
            evaluations.latency = self.milliseconds
        surrogate = Surrogate(self.loss, self.size, self.latency if timed else None)
        setting = Setting(self.space, goal, evaluations, surrogate, 0.95, budget, seconds)
        state = run(setting, planners_of(method, seed))
        network = cast("Calibrated", FakeNetwork())
        return answer(state, evaluations, network, method=method, seed=seed, reference=0.95)

    def feasible(self, constraints: Constraints) -> dict[bytes, tuple[float, float]]:
        """All configurations that meet the constraints: accuracy and size."""
        rows = self.space.all_rows()
        accuracy, size = self.accuracy(rows), self.size(rows)
        fine = np.ones(len(rows), np.bool_)
        if constraints.accuracy is not None:
            fine &= accuracy >= constraints.accuracy
        if constraints.size is not None:
            fine &= size <= constraints.size
        if constraints.latency is not None:
            fine &= 0.05 + self.latency(rows) <= constraints.latency
        return {
            r.tobytes(): (float(a), float(s))
            for r, a, s in zip(rows[fine], accuracy[fine], size[fine], strict=True)
        }


class FakeNetwork:
    """Compiles to what it was given."""

    def compile(self, bit_widths: Mapping[str, Any]) -> Any:
        return dict(bit_widths)
