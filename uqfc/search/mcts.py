"""Monte-Carlo tree search over the layers' types, with a learned policy as prior.

The tree decides one layer after the other. A simulation walks down by PUCT (Rosin 2011; Silver et
al. 2017): the choice of the highest ``Q + exploration * P * sqrt(N) / (1 + n)``, where ``P`` is the
policy's probability, ``N`` and ``n`` count visits of the node and the choice, and ``Q`` in 0..1
says what configurations below it were worth: half the mean and half the best, as there is no
opponent. The first new node ends the walk; the policy draws the rest. What is learned is the policy
(``uqfc.search.policy``), from the best configurations seen. The value of a configuration is
whatever the search is told: a surrogate's, or a true one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from uqfc.search.costs import F64, CostModel
from uqfc.search.ilp import Limit
from uqfc.search.policy import Policy
from uqfc.search.scores import Scores
from uqfc.search.space import Row, Rows, stacked

EXPLORATION = 3.0
ELITE = 16
"""Configurations that the policy learns from."""
ATTEMPTS = 4
"""Simulations for each row that is asked for, until one is new."""


class Node:
    """Statistics of each choice of one layer, after the choices of those before it."""

    def __init__(self, choices: int) -> None:
        self.visits = np.zeros(choices)
        self.feasible = np.zeros(choices)
        """Visits that ended in a configuration within the limits."""
        self.total = np.zeros(choices)
        """Sum of their values."""
        self.best = np.full(choices, np.inf)
        self.shortfall = np.zeros(choices)
        """Sum of ``v / (1 + v)`` of the others' violations ``v``."""

    def quality(self, least: float, span: float) -> F64:
        """[choices]: in 0..1; 0.5 or more where all configurations were within the limits."""
        seen, fine = np.maximum(self.visits, 1), np.maximum(self.feasible, 1)
        mean = 1 - ((self.total / fine - least) / span).clip(0, 1)
        best = 1 - ((np.where(self.feasible > 0, self.best, least) - least) / span).clip(0, 1)
        good = self.feasible * (0.5 + 0.25 * mean + 0.25 * best)
        bad = 0.5 * (self.visits - self.feasible - self.shortfall)
        return np.where(self.visits > 0, (good + bad) / seen, 0.5)


class Admissible:
    """Whether a choice leaves any configuration within the limits, as far as sums can tell."""

    def __init__(self, limits: Sequence[Limit], order: Sequence[int]) -> None:
        self.limits = [limit for limit in limits if np.isfinite(limit.most)]
        self.rest = [self._rest(limit.cost, order) for limit in self.limits]

    def _rest(self, cost: CostModel, order: Sequence[int]) -> F64:
        """[layers + 1]: least sum of the layers from a place in the order on, and of all pairs."""
        least = np.array([float(cost.unary[layer].min()) for layer in order])
        pairs = sum(float(pair.table.min()) for pair in cost.pairs)
        return np.append(np.cumsum(least[::-1])[::-1], 0.0) + pairs

    def start(self) -> F64:
        """Sums before any choice."""
        return np.array([limit.cost.constant for limit in self.limits])

    def choices(self, sums: F64, place: int, layer: int, count: int) -> NDArray[np.bool_]:
        """[choices]: which may be taken; all, if none may."""
        allowed = np.ones(count, np.bool_)
        for limit, rest, total in zip(self.limits, self.rest, sums, strict=True):
            allowed &= total + limit.cost.unary[layer] + rest[place + 1] <= limit.most
        return allowed if allowed.any() else np.ones(count, np.bool_)

    def add(self, sums: F64, layer: int, choice: int) -> F64:
        """Sums after a choice."""
        return sums + np.array([limit.cost.unary[layer][choice] for limit in self.limits])


class TreeSearch:
    """A ``Strategy``. ``limits`` prune what cannot be within them; they may be none, and what the
    search is told decides. ``order``: of the layers in the tree."""

    def __init__(
        self,
        counts: Sequence[int],
        seed: int,
        *,
        policy: Policy | None = None,
        limits: Sequence[Limit] = (),
        order: Sequence[int] | None = None,
    ) -> None:
        self.counts = tuple(counts)
        self.policy = policy or Policy(counts)
        self.order = [int(i) for i in (range(len(counts)) if order is None else order)]
        self.admissible = Admissible(limits, self.order)
        self.generator = np.random.default_rng(seed)
        self.nodes: dict[bytes, Node] = {b"": Node(self.counts[self.order[0]])}
        self.asked: dict[bytes, int] = {}
        """Rows, and at how many nodes each was counted as a visit that ended badly, so far."""
        self.elite: list[tuple[tuple[float, float], bytes]] = []
        self.least, self.most = np.inf, -np.inf

    def ask(self, count: int) -> Rows:
        """Rows of as many simulations; visits on their way discourage the next one from it."""
        found: list[Row] = []
        for _ in range(ATTEMPTS * count):
            if len(found) == count:
                break
            row, counted = self.simulate()
            if row.tobytes() not in self.asked:
                self.asked[row.tobytes()] = counted
                found.append(row)
        return stacked(found, len(self.counts))

    def simulate(self) -> tuple[Row, int]:
        """One walk: through the tree to a new node, then by the policy. The row, and at how many
        nodes it was counted as a visit that ended badly."""
        row = np.zeros(len(self.counts), np.uint8)
        prefix, counted, inside = b"", 0, True
        sums = self.admissible.start()
        for place, layer in enumerate(self.order):
            allowed = self.admissible.choices(sums, place, layer, self.counts[layer])
            prior = np.where(allowed, self.policy.probabilities[layer][: len(allowed)], 0.0)
            prior /= prior.sum()
            if inside and prefix in self.nodes:
                choice = self.select(self.nodes[prefix], prior, allowed)
            else:
                drawn = np.searchsorted(np.cumsum(prior), self.generator.random())
                choice = min(int(drawn), len(prior) - 1)
            if inside:
                inside = prefix in self.nodes
                node = self.nodes.setdefault(prefix, Node(self.counts[layer]))
                node.visits[choice] += 1
                node.shortfall[choice] += 1
                counted += 1
            row[layer] = choice
            sums = self.admissible.add(sums, layer, choice)
            prefix += bytes([choice])
        return row, counted

    def select(self, node: Node, prior: F64, allowed: NDArray[np.bool_]) -> int:
        """The choice by PUCT."""
        span = max(self.most - self.least, 1e-12) if self.most > self.least else 1.0
        least = self.least if np.isfinite(self.least) else 0.0
        explore = EXPLORATION * prior * np.sqrt(node.visits.sum() + 1) / (1 + node.visits)
        return int(np.where(allowed, node.quality(least, span) + explore, -np.inf).argmax())

    def tell(self, rows: Rows, scores: Scores) -> None:
        """Back values up the tree and let the policy learn."""
        violation, value = scores.order
        fine = value[violation <= 0]
        if len(fine):
            self.least = min(self.least, float(fine.min()))
            self.most = max(self.most, float(fine.max()))
        for place, row in enumerate(rows):
            self.back_up(row, float(violation[place]), float(value[place]))
            self.elite.append((scores.key(place), row.tobytes()))
        self.elite = sorted(set(self.elite))[:ELITE]
        best = [np.frombuffer(content, np.uint8) for _, content in self.elite]
        self.policy.learn(stacked(best, len(self.counts)))

    def back_up(self, row: Row, violation: float, value: float) -> None:
        """Count a configuration at every node of its path, in the place of what ``ask`` counted."""
        counted = self.asked.get(row.tobytes(), 0)
        if counted:
            self.asked[row.tobytes()] = 0
        ordered = row[self.order].tobytes()
        for place, choice in enumerate(ordered):
            node = self.nodes.get(ordered[:place])
            if node is None:
                break
            if place < counted:
                node.shortfall[choice] -= 1
            else:
                node.visits[choice] += 1
            if violation <= 0:
                node.feasible[choice] += 1
                node.total[choice] += value
                node.best[choice] = min(node.best[choice], value)
            else:
                node.shortfall[choice] += violation / (1 + violation)
