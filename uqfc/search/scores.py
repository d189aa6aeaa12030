"""What a configuration is worth, and searching for a better one nearby."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from typing import Protocol, TypeAlias

import numpy as np

from uqfc.search.costs import F64
from uqfc.search.space import Row, Rows

MOST_PAIRS = 4096
"""Changes of two layers that one step of ``improve`` looks at; drawn where there are more."""


@dataclass(frozen=True)
class Scores:
    """Of n rows: ``objectives`` [n, m], to be minimized, of which the first is what is wanted;
    ``violation`` [n], by how much limits are broken: 0 or less where none is."""

    objectives: F64
    violation: F64

    @property
    def order(self) -> tuple[F64, F64]:
        """Keys by which a row is better: less violation, then a smaller first objective."""
        return self.violation.clip(0), self.objectives[:, 0]

    def best(self) -> int:
        """The index of the best row, of equals the first."""
        violation, value = self.order
        return int(np.lexsort((value, violation))[0])

    def key(self, index: int) -> tuple[float, float]:
        """Of one row: the less the better."""
        violation, value = self.order
        return float(violation[index]), float(value[index])


Objective: TypeAlias = Callable[[Rows], Scores]
"""Scores of rows, uint8 [n, layers]; any function."""


class Strategy(Protocol):
    """A search that is told what its proposals are worth. All randomness is of its seed, so that
    the same answers lead to the same proposals."""

    def ask(self, count: int) -> Rows:
        """At most ``count`` rows, none of which was asked about before; none: it is done."""
        ...

    def tell(self, rows: Rows, scores: Scores) -> None:
        """What rows are worth, whether asked about or not."""
        ...


@dataclass(frozen=True)
class Found:
    """The best row that was seen, with its key, after so many evaluations."""

    row: Row
    key: tuple[float, float]
    evaluations: int

    @property
    def feasible(self) -> bool:
        return self.key[0] <= 0

    @property
    def value(self) -> float:
        """Its first objective."""
        return self.key[1]


def minimize(
    strategy: Strategy,
    objective: Objective,
    evaluations: int,
    *,
    batch: int = 4,
    rounds: int | None = None,
    refine: tuple[int, ...] | None = None,
    seed: int = 0,
) -> Found:
    """Ask and tell until about so many evaluations are spent, or so many ``rounds`` are over; at
    least one row is evaluated.

    ``refine``: the numbers of choices, where the objective is cheap: the best row of each batch
    is then improved by ``improve``, and the strategy is told of the result. What that evaluates
    counts.
    """
    generator = np.random.default_rng(seed)
    best: Found | None = None
    spent = done = 0
    while best is None or (spent < evaluations and done != rounds):
        done += 1
        rows = strategy.ask(batch)
        if not len(rows):
            break
        scores = objective(rows)
        spent += len(rows)
        strategy.tell(rows, scores)
        place = scores.best()
        candidate, key = rows[place], scores.key(place)
        if refine is not None:
            candidate, key, more = improve(candidate, key, objective, refine, generator)
            spent += more
            strategy.tell(candidate[None], objective(candidate[None]))
        if best is None or key < best.key:
            best = Found(candidate, key, spent)
    if best is None:
        raise ValueError("the strategy proposed nothing")
    return Found(best.row, best.key, spent)


def improve(
    row: Row,
    key: tuple[float, float],
    objective: Objective,
    counts: tuple[int, ...],
    generator: np.random.Generator,
) -> tuple[Row, tuple[float, float], int]:
    """Take the best change of one layer, or else of two, while there is one that is better.

    Returns the row, its key, and how many evaluations that took.
    """
    spent = 0
    singles = [(layer, c) for layer, count in enumerate(counts) for c in range(count)]
    while True:
        for moves in (changes(row, singles), pair_changes(row, singles, generator)):
            if not len(moves):
                continue
            scores = objective(moves)
            spent += len(moves)
            place = scores.best()
            if scores.key(place) < key:
                row, key = moves[place], scores.key(place)
                break
        else:
            return row, key, spent


def changes(row: Row, singles: list[tuple[int, int]]) -> Rows:
    """Rows with one other choice."""
    made = [(layer, choice) for layer, choice in singles if row[layer] != choice]
    rows = np.repeat(row[None], len(made), axis=0)
    for place, (layer, choice) in enumerate(made):
        rows[place, layer] = choice
    return rows


def pair_changes(row: Row, singles: list[tuple[int, int]], generator: np.random.Generator) -> Rows:
    """Rows with two other choices, at most ``MOST_PAIRS``."""
    made = [(layer, choice) for layer, choice in singles if row[layer] != choice]
    if len(made) < 2:
        return np.empty((0, len(row)), np.uint8)
    if len(made) * (len(made) - 1) // 2 <= MOST_PAIRS:
        picked = np.array(list(combinations(range(len(made)), 2)))
    else:
        picked = generator.integers(0, len(made), (MOST_PAIRS, 2))
    layers, choices = np.array(made).T
    first, second = picked.T
    apart = layers[first] != layers[second]
    first, second = first[apart], second[apart]
    rows = np.repeat(row[None], len(first), axis=0)
    at = np.arange(len(first))
    rows[at, layers[first]] = choices[first]
    rows[at, layers[second]] = choices[second]
    return rows
