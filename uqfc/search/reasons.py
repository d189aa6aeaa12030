"""Why each layer has the type that it has: what the next narrower or wider one would break."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from uqfc.dialects.quant.decisions import Decision, Reason
from uqfc.search.constraints import Constraints, Metric
from uqfc.search.costs import F64
from uqfc.search.space import Row, Rows, SearchSpace

CONSTRAINTS = {
    Metric.ACCURACY: Reason.ACCURACY_CONSTRAINT,
    Metric.LATENCY: Reason.LATENCY_CONSTRAINT,
    Metric.SIZE: Reason.SIZE_CONSTRAINT,
}


def decisions(
    space: SearchSpace,
    row: Row,
    constraints: Constraints,
    predict: Callable[[Rows], Mapping[Metric, F64]],
) -> dict[str, Decision]:
    """A decision for every layer, by what is predicted of rows that differ in one layer.

    What is requested is the narrowest choice that is predicted to be smaller, or else faster, than
    all wider ones; others (ternary weights, say, of a layer whose padding hides them) count as not
    asked for.

    - ``requested``: the layer has it;
    - ``accuracy_constraint``, ``latency_constraint``: the next narrower type would break that limit
      (the accuracy's comes first);
    - ``slower``: it would be slower, and no smaller;
    - ``sensitive``: none of these; the search found that it costs more accuracy than it is worth.

    A layer that has its narrowest choice because of a limit (the next wider type would break it)
    says which: ``latency_constraint`` or ``size_constraint``.
    """
    found: dict[str, Decision] = {}
    before = figures_of(predict, row)
    for layer, (name, choices) in enumerate(zip(space.layers, space.choices, strict=True)):
        chosen = int(row[layer])
        reason = Reason.REQUESTED
        other = row.copy()
        narrower = worth_asking(row, layer, len(choices), predict)
        if narrower:
            other[layer] = narrower[0]
            reason = reason_of_wider(constraints, before, figures_of(predict, other))
        elif chosen > 0:
            other[layer] = chosen - 1
            broken = broken_by(constraints, before, figures_of(predict, other))
            reason = next(iter(broken), reason)
        requested = choices[narrower[-1]] if narrower else choices[chosen]
        found[name] = Decision(requested, choices[chosen], reason)
    return found


def worth_asking(
    row: Row, layer: int, count: int, predict: Callable[[Rows], Mapping[Metric, F64]]
) -> list[int]:
    """Choices of a layer, narrower than the row's, each smaller or faster than those before it."""
    rows = np.repeat(row[None], count, axis=0)
    rows[:, layer] = np.arange(count)
    figures = predict(rows)
    size, latency = figures[Metric.SIZE], figures.get(Metric.LATENCY, np.zeros(count))
    best, found = int(row[layer]), list[int]()
    for choice in range(best + 1, count):
        if size[choice] < size[best] or latency[choice] < latency[best]:
            found.append(choice)
            best = choice
    return found


def figures_of(predict: Callable[[Rows], Mapping[Metric, F64]], row: Row) -> dict[Metric, float]:
    """What is predicted of a single row."""
    return {metric: float(values[0]) for metric, values in predict(row[None]).items()}


def broken_by(
    constraints: Constraints, before: Mapping[Metric, float], after: Mapping[Metric, float]
) -> list[Reason]:
    """Limits that a change breaks, or breaks more."""
    found: list[Reason] = []
    for metric, limit in constraints.limits().items():
        sign = -1 if metric == Metric.ACCURACY else 1
        if metric in after and sign * after[metric] > max(sign * limit, sign * before[metric]):
            found.append(CONSTRAINTS[metric])
    return found


def reason_of_wider(
    constraints: Constraints, before: Mapping[Metric, float], after: Mapping[Metric, float]
) -> Reason:
    """Why a layer has not the next narrower type."""
    broken = broken_by(constraints, before, after)
    if broken:
        return broken[0]
    slower = after.get(Metric.LATENCY, 0.0) > before.get(Metric.LATENCY, 0.0)
    return (
        Reason.SLOWER if slower and after[Metric.SIZE] >= before[Metric.SIZE] else Reason.SENSITIVE
    )
