"""The loop of a search: propose, evaluate, calibrate the surrogate, and again."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np

from uqfc.search.constraints import Goal, Metric
from uqfc.search.evaluations import Evaluations
from uqfc.search.planning import Exact, Guided, Planner, State, best_place
from uqfc.search.space import SearchSpace, stacked
from uqfc.search.surrogate import Surrogate

METHODS = ("auto", "ilp", "mcts", "evolution")
BATCH = 4
"""Candidates that are evaluated between two plans. It does not depend on the number of workers, so
that the search does not."""
EXACT_SHARE = 0.6
"""Of the budget, after which ``auto`` goes from the exact optimum on to tree search."""

Progress = Callable[[str, int], None]
"""Called with what is done, and how many steps of it."""


@dataclass
class Setting:
    """What a search works with, once everything is read, calibrated and checked."""

    space: SearchSpace
    goal: Goal
    evaluations: Evaluations
    surrogate: Surrogate
    reference: float | None
    budget: int
    deadline: float


def planners_of(method: str, seed: int) -> list[tuple[Planner, float]]:
    """Planners with the share of the budget after which the next one follows."""
    match method:
        case "ilp":
            return [(Exact(), 1.0)]
        case "auto" if find_spec("scipy") is None:
            return [(Guided("mcts", seed), 1.0)]
        case "auto":
            return [(Exact(), EXACT_SHARE), (Guided("mcts", seed), 1.0)]
        case other:
            return [(Guided(other, seed), 1.0)]


def run(setting: Setting, planners: Sequence[tuple[Planner, float]]) -> State:
    """Evaluate uniform types, then what the planners propose, until the budget is spent."""
    space, evaluations = setting.space, setting.evaluations
    starts = [space.uniform(dtype) for dtype in space.dtypes]
    widest = np.zeros(len(space.layers), np.uint8)
    evaluations.add(stacked([widest, *starts][: setting.budget], len(space.layers)))
    state = state_of(setting)
    for planner, share in planners:
        most = round(share * setting.budget)
        while len(evaluations) < most and time.monotonic() < setting.deadline:
            rows = planner.propose(state, min(BATCH, most - len(evaluations)))
            if not len(rows):
                break
            evaluations.add(rows)
            state = state_of(setting)
    return state


def state_of(setting: Setting) -> State:
    """With the surrogate calibrated by all that was evaluated."""
    evaluations = setting.evaluations
    rows, known = evaluations.metrics(evaluations.good)
    accuracies = known[Metric.ACCURACY]
    widest = np.flatnonzero((rows == 0).all(axis=1))
    if len(widest):
        base = float(accuracies[widest[0]])
    elif setting.reference is not None:
        base = setting.reference
    else:
        base = float(accuracies.max(initial=0.0))
    surrogate = setting.surrogate.calibrated(rows, base - accuracies, known[Metric.LATENCY])
    failed = [row for i, row in enumerate(evaluations.rows) if i not in evaluations.good]
    all_rows = stacked([*rows, *failed], len(setting.space.layers))
    padding = np.full(len(failed), np.nan)
    figures = {metric: np.concatenate([values, padding]) for metric, values in known.items()}
    return State(setting.space, setting.goal, surrogate, base, all_rows, figures)


def reporter(
    progress: Progress | None, budget: int, goal: Goal
) -> Callable[[Evaluations], None] | None:
    """Says how far the search is and what is the best so far."""
    if progress is None:
        return None

    def report(evaluations: Evaluations) -> None:
        _, known = evaluations.metrics(evaluations.good)
        place = best_place(goal, known) if evaluations.good else None
        text = "nothing within the limits yet"
        if place is not None:
            text = f"best {known[Metric.SIZE][place]:,.0f} bytes, "
            text += f"accuracy {known[Metric.ACCURACY][place]:.4f}"
            if np.isfinite(known[Metric.LATENCY][place]):
                text += f", {known[Metric.LATENCY][place]:.4f} ms"
        progress(f"evaluate (of {budget}; {text})", len(evaluations))

    return report
