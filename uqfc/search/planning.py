"""Which configurations to evaluate next: by the exact optimum, by tree search, or by evolution.

All see the same state: what was evaluated, and a surrogate that was calibrated with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from uqfc.search import ilp
from uqfc.search.constraints import Goal, Metric
from uqfc.search.costs import F64, CostModel
from uqfc.search.evolution import Evolution
from uqfc.search.ilp import Limit, Optimum
from uqfc.search.mcts import TreeSearch
from uqfc.search.policy import Policy, cost_features
from uqfc.search.scores import Scores, Strategy, minimize
from uqfc.search.space import Row, Rows, SearchSpace, stacked
from uqfc.search.surrogate import Surrogate

SIMULATIONS = 20_000
"""Evaluations of the surrogate for each proposal of tree search or evolution."""
ROUNDS = 40
"""Proposals of tree search or evolution that these evaluations are for, each of a few rows and what
improves the best of them, at most."""
FRONTIER = (0.2, 0.4, 0.6, 0.8)
"""Sizes between the least and the most, as shares, at which the exact optimum starts."""
SOLVER_SECONDS = 20.0
"""Of each call: an optimum that takes longer is replaced by the best that was found."""


@dataclass(frozen=True)
class State:
    """What is known. ``rows`` [n, layers] were evaluated, ``known`` their true figures, NaN where
    there is none; ``base``: accuracy of the widest types; drops are relative to it."""

    space: SearchSpace
    goal: Goal
    surrogate: Surrogate
    base: float
    rows: Rows
    known: dict[Metric, F64]

    def predicted(self, rows: Rows) -> dict[Metric, F64]:
        """Figures by the surrogate."""
        found = {
            Metric.ACCURACY: self.base - self.surrogate.drop(rows),
            Metric.SIZE: self.surrogate.size(rows),
        }
        if self.surrogate.latency is not None:
            found[Metric.LATENCY] = self.surrogate.latency(rows)
        return found

    @property
    def limits(self) -> tuple[Limit, ...]:
        """The constraints as sums: that of the accuracy is one of the loss."""
        constraints, surrogate = self.goal.constraints, self.surrogate
        found: list[Limit] = []
        if constraints.accuracy is not None:
            most = surrogate.curve.largest_loss(self.base - constraints.accuracy)
            found.append(Limit(Metric.ACCURACY, surrogate.loss, most))
        if constraints.latency is not None and surrogate.latency is not None:
            found.append(Limit(Metric.LATENCY, surrogate.latency, constraints.latency))
        if constraints.size is not None:
            found.append(Limit(Metric.SIZE, surrogate.size, constraints.size))
        return tuple(found)

    @property
    def cost(self) -> CostModel:
        """The objective as a sum; of the accuracy, the loss."""
        match self.goal.objective:
            case Metric.SIZE:
                return self.surrogate.size
            case Metric.LATENCY if self.surrogate.latency is not None:
                return self.surrogate.latency
            case _:
                return self.surrogate.loss

    @property
    def best(self) -> int | None:
        """The place of the best row that meets all constraints."""
        return best_place(self.goal, self.known)

    @property
    def seen(self) -> set[bytes]:
        """Rows that were evaluated."""
        return {row.tobytes() for row in self.rows}


def best_place(goal: Goal, known: dict[Metric, F64]) -> int | None:
    """The best of true figures within the constraints, of equals the first; None without any."""
    scores = goal.scores(known)
    fine = (scores.violation <= 0) & np.isfinite(scores.objectives[:, 0])
    if not fine.any():
        return None
    places = np.flatnonzero(fine)
    keys = [scores.objectives[places, i] for i in range(scores.objectives.shape[1])]
    return int(places[np.lexsort(keys[::-1])[0]])


class Planner(Protocol):
    """Proposes rows, in an order and number that depends on the state alone."""

    def propose(self, state: State, count: int) -> Rows:
        """At most ``count`` rows that were not evaluated; none: there is nothing left to gain."""
        ...


class Exact:
    """The optimum of the calibrated surrogate, the next best ones, and points of its front."""

    def propose(self, state: State, count: int) -> Rows:
        found: list[Row] = []
        new = state.seen
        for solve in self.programs(state):
            if len(found) == count:
                break
            optimum = solve([*state.rows, *found])
            if optimum.row is not None and optimum.row.tobytes() not in new:
                new.add(optimum.row.tobytes())
                found.append(optimum.row)
        return stacked(found, len(state.space.layers))

    def programs(self, state: State) -> Sequence[Callable[[Sequence[Row]], Optimum]]:
        """In the order of what they are expected to be good for."""
        limits = state.limits
        wanted = [self.next_best(state, limits)]
        if ilp.minimize(state.cost, limits, seconds=SOLVER_SECONDS).row is None:
            relaxed = ilp.relax([each for each in limits if np.isfinite(each.most)])
            rows = [relaxed.row, *(s.row for s in relaxed.shortfalls if s.row is not None)]
            wanted = [given(row) for row in rows]
        return [*wanted, *self.frontier(state)]

    def next_best(
        self, state: State, limits: Sequence[Limit]
    ) -> Callable[[Sequence[Row]], Optimum]:
        """The best that was not evaluated, unless the best that was is at least as good."""

        def solve(excluded: Sequence[Row]) -> Optimum:
            optimum = ilp.minimize(state.cost, limits, excluded, SOLVER_SECONDS)
            best = state.best
            if best is None or state.goal.objective == Metric.ACCURACY:
                return optimum
            if optimum.value >= state.cost.one(state.rows[best]):
                return Optimum(None, np.inf, optimum.bound)
            return optimum

        return solve

    def frontier(self, state: State) -> list[Callable[[Sequence[Row]], Optimum]]:
        """The least loss at a few sizes, each of which is proposed once."""
        size, loss = state.surrogate.size, state.surrogate.loss
        low = size.constant + sum(float(terms.min()) for terms in size.unary)
        high = size.constant + sum(float(terms.max()) for terms in size.unary)

        def at(share: float) -> Callable[[Sequence[Row]], Optimum]:
            limit = Limit(Metric.SIZE, size, low + share * (high - low))
            return lambda _: ilp.minimize(loss, [limit], seconds=SOLVER_SECONDS)

        return [at(share) for share in FRONTIER]


def given(row: Row) -> Callable[[Sequence[Row]], Optimum]:
    """A program whose solution is known."""
    return lambda _: Optimum(row, 0.0, 0.0)


class Guided:
    """Tree search or evolution on the calibrated surrogate with its residuals, and on true figures
    where they are known. The policy of the tree search goes on learning from one proposal to the
    next."""

    def __init__(self, method: str, seed: int) -> None:
        self.method = method
        self.generator = np.random.default_rng(seed)
        self.policy: Policy | None = None

    def propose(self, state: State, count: int) -> Rows:
        seed = int(self.generator.integers(0, 2**32))
        truth = {row.tobytes(): place for place, row in enumerate(state.rows)}
        true_scores = state.goal.scores(state.known)
        seen: dict[bytes, tuple[float, float]] = {}

        def objective(rows: Rows) -> Scores:
            scores = state.goal.scores(state.predicted(rows))
            for place, row in enumerate(rows):
                at = truth.get(row.tobytes())
                if at is not None:
                    width = scores.objectives.shape[1]
                    scores.objectives[place] = true_scores.objectives[at, :width]
                    scores.violation[place] = true_scores.violation[at]
                else:
                    seen.setdefault(row.tobytes(), scores.key(place))
            return scores

        strategy = self.strategy(state, seed)
        counts = state.space.counts
        minimize(
            strategy,
            objective,
            SIMULATIONS,
            batch=8,
            rounds=ROUNDS,
            refine=counts,
            seed=seed,
        )
        best = sorted(seen, key=lambda row: (seen[row], row))[:count]
        return stacked((np.frombuffer(row, np.uint8) for row in best), len(counts))

    def strategy(self, state: State, seed: int) -> Strategy:
        """New, but for the policy; good rows that were evaluated are where it starts."""
        counts, surrogate = state.space.counts, state.surrogate
        if self.method == "evolution":
            return Evolution(counts, seed, start=state.rows)
        costs = [surrogate.loss, surrogate.size]
        if surrogate.latency is not None:
            costs.append(surrogate.latency)
        if self.policy is None:
            self.policy = Policy(counts, cost_features(costs))
        spread = [float(np.ptp(terms)) for terms in surrogate.loss.unary]
        order = sorted(range(len(spread)), key=lambda layer: -spread[layer])
        limits = [each for each in state.limits if each.name != Metric.ACCURACY]
        search = TreeSearch(counts, seed, policy=self.policy, limits=limits, order=order)
        if len(state.rows):
            search.tell(state.rows, state.goal.scores(state.known))
        return search
