"""From the last state of a search to its result."""

from __future__ import annotations

from contextlib import suppress

import numpy as np

from uqfc.calibrated import Calibrated
from uqfc.search import ilp
from uqfc.search.constraints import Metric
from uqfc.search.evaluations import Evaluations
from uqfc.search.ilp import Limit
from uqfc.search.planning import SOLVER_SECONDS, State, best_place
from uqfc.search.reasons import decisions
from uqfc.search.result import (
    Candidate,
    Infeasibility,
    Optimality,
    SearchResult,
    Unmet,
    with_front,
)
from uqfc.search.space import Row

NEAREST = 5
"""Points that the report of a search without a result lists."""


def answer(
    state: State,
    evaluations: Evaluations,
    network: Calibrated,
    *,
    method: str,
    seed: int,
    reference: float | None,
) -> SearchResult:
    """The best candidate within the constraints, compiled with its reasons; or what is amiss."""
    space, goal = state.space, state.goal
    candidates = with_front(
        [
            Candidate(space.configuration(row), outcome, label_of(state, row))
            for row, outcome in zip(evaluations.rows, evaluations.outcomes, strict=True)
        ]
    )
    good = evaluations.good
    rows, known = evaluations.metrics(good)
    place = best_place(goal, known) if good else None
    chosen = None if place is None else candidates[good[place]]
    decided = compiled = optimality = failure = None
    if place is None:
        failure = infeasibility(state, [candidates[i] for i in good])
    else:
        decided = decisions(space, rows[place], goal.constraints, state.predicted)
        compiled = network.compile(decided)
        optimality = bound(state, rows[place])
    return SearchResult(
        feasible=chosen is not None,
        configuration=None if chosen is None else chosen.configuration,
        decisions=decided,
        model=compiled,
        chosen=chosen,
        constraints=goal.constraints,
        objective=goal.objective,
        method=method,
        seed=seed,
        combinations=space.combinations,
        reference_accuracy=reference,
        candidates=candidates,
        optimality=optimality,
        infeasibility=failure,
        fresh=evaluations.fresh,
        notes=tuple(dict.fromkeys(evaluations.workers.notes)),
    )


def label_of(state: State, row: Row) -> str:
    """``uniform …`` for a row of one type, as far as it may be."""
    for dtype in state.space.dtypes:
        if (row == state.space.uniform(dtype)).all():
            return f"uniform {dtype}"
    return ""


def bound(state: State, row: Row) -> Optimality | None:
    """By the exact optimum of the surrogate, with limits that let the row itself pass: it was
    measured to be within them, whatever is predicted. None without SciPy."""
    limits = [
        Limit(each.name, each.cost, max(each.most, each.cost.one(row))) for each in state.limits
    ]
    try:
        found = ilp.minimize(state.cost, limits, seconds=SOLVER_SECONDS)
    except ilp.SolverMissingError:
        return None
    return Optimality(state.goal.objective, state.cost.one(row), found.bound)


def infeasibility(state: State, good: list[Candidate]) -> Infeasibility:
    """Which constraint fails by how much, and what comes nearest."""
    scores = state.goal.scores(state.known)
    order: list[int] = np.lexsort((scores.objectives[:, 0], scores.violation)).tolist()
    nearest = tuple(good[i] for i in order if i < len(good))[:NEAREST]
    limits = [each for each in state.limits if np.isfinite(each.most)]
    relaxed: dict[str, ilp.Shortfall] = {}
    with suppress(ilp.SolverMissingError):
        relaxed = {each.name: each for each in ilp.relax(limits).shortfalls} if limits else {}
    unmet: list[Unmet] = []
    for metric, limit in state.goal.constraints.limits().items():
        sign = -1.0 if metric == Metric.ACCURACY else 1.0
        values = state.known[metric][: len(good)]
        seen = values[np.isfinite(values)]
        best = None if not len(seen) else float(sign * (sign * seen).min())
        found = relaxed.get(metric)
        alone = None if found is None else in_metric(state, metric, found.alone)
        least = None if found is None or found.least is None else found.least
        joint = None if least is None else in_metric(state, metric, least)
        near = joint if joint is not None else alone
        missing = None if near is None else max(0.0, sign * (near - limit))
        unmet.append(Unmet(metric, limit, best, alone, joint, missing))
    return Infeasibility(tuple(unmet), nearest)


def in_metric(state: State, metric: Metric, cost: float) -> float:
    """An accuracy of a loss; anything else as it is."""
    if metric != Metric.ACCURACY:
        return cost
    return state.base - float(state.surrogate.curve(np.array([cost]))[0])
