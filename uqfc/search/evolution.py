"""NSGA-II (Deb et al. 2002) over the layers' types: a population near the whole Pareto front."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from uqfc.search.costs import F64
from uqfc.search.pareto import crowding, ranks
from uqfc.search.scores import Scores
from uqfc.search.space import Row, Rows, stacked

POPULATION = 32
CROSSOVER = 0.9
"""Probability that a child has two parents; each of its layers is of either, evenly."""
ATTEMPTS = 20


class Evolution:
    """A ``Strategy``. ``start``: rows of the first population, filled up with random ones."""

    def __init__(
        self, counts: Sequence[int], seed: int, *, start: Rows | None = None, size: int = POPULATION
    ) -> None:
        self.counts = np.array(counts)
        self.size = size
        self.generator = np.random.default_rng(seed)
        self.start = [] if start is None else list(start)
        self.asked: set[bytes] = set()
        self.rows = np.empty((0, len(counts)), np.uint8)
        self.rank = np.empty(0, np.int64)
        self.distance = np.empty(0)
        self.scores: Scores | None = None

    def ask(self, count: int) -> Rows:
        """Rows to start with, then children of the population."""
        found: list[Row] = []
        for _ in range(ATTEMPTS * count):
            if len(found) == count:
                break
            row = self.next_row()
            if row.tobytes() not in self.asked:
                self.asked.add(row.tobytes())
                found.append(row)
        return stacked(found, len(self.counts))

    def next_row(self) -> Row:
        if self.start:
            return self.start.pop(0)
        if len(self.rows) < self.size // 2:
            return self.generator.integers(0, self.counts, dtype=np.uint8)
        return self.child()

    def child(self) -> Row:
        """Crossed over and mutated: each layer changes with the probability of one in them all."""
        row: Row = self.rows[self.parent()].copy()
        if self.generator.random() < CROSSOVER:
            other: Row = self.rows[self.parent()]
            row = np.where(self.generator.random(len(row)) < 0.5, row, other)
        mutated = self.generator.random(len(row)) < 1 / len(row)
        drawn = self.generator.integers(0, self.counts, dtype=np.uint8)
        return np.where(mutated, drawn, row)

    def parent(self) -> int:
        """The better of two: of a lower rank, or farther from its neighbours."""
        one, other = self.generator.integers(0, len(self.rows), 2)
        return int(min((one, other), key=lambda i: (self.rank[i], -self.distance[i])))

    def tell(self, rows: Rows, scores: Scores) -> None:
        """The best of population and rows are the next population; what has no finite figures
        (it could not be evaluated) is no part of it."""
        fine = np.isfinite(scores.objectives).all(axis=1)
        rows, scores = rows[fine], Scores(scores.objectives[fine], scores.violation[fine])
        if self.scores is None:
            joined, points, violation = rows, scores.objectives, scores.violation
        else:
            joined = np.concatenate([self.rows, rows])
            points = np.concatenate([self.scores.objectives, scores.objectives])
            violation = np.concatenate([self.scores.violation, scores.violation])
        joined, kept = np.unique(joined, axis=0, return_index=True)
        points, violation = points[kept], violation[kept]
        rank = ranks(points, violation)
        distance = front_distances(points, rank)
        order = np.lexsort((-distance, rank))[: self.size]
        self.rows, self.rank, self.distance = joined[order], rank[order], distance[order]
        self.scores = Scores(points[order], violation[order])


def front_distances(points: F64, rank: np.ndarray[tuple[int], np.dtype[np.int64]]) -> F64:
    """[n]: crowding distance of each point within its front."""
    distance = np.zeros(len(points))
    for front in range(int(rank.max(initial=-1)) + 1):
        members = np.flatnonzero(rank == front)
        distance[members] = crowding(points[members])
    return distance
