"""Random problems of the search: costs with interactions, and limits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from uqfc.search.costs import CostModel, Pair
from uqfc.search.ilp import Limit
from uqfc.search.scores import Scores
from uqfc.search.space import Rows, SearchSpace


def space_of(counts: tuple[int, ...]) -> SearchSpace:
    """Layers ``layer_0`` … with that many types each."""
    dtypes = ("int8", "int4", "ternary", "binary")
    return SearchSpace(
        tuple(f"layer_{i}" for i in range(len(counts))), tuple(dtypes[:c] for c in counts)
    )


@dataclass(frozen=True)
class Instance:
    """``loss`` is to be minimized within the limits."""

    counts: tuple[int, ...]
    loss: CostModel
    limits: tuple[Limit, ...]

    def objective(self, rows: Rows) -> Scores:
        """Violations as shares of the limits."""
        broken = np.zeros(len(rows))
        for limit in self.limits:
            broken += ((limit.cost(rows) - limit.most) / max(abs(limit.most), 1)).clip(0)
        return Scores(self.loss(rows)[:, None], broken)


@st.composite
def whole_costs(draw: st.DrawFn, counts: tuple[int, ...], most_pairs: int = 4) -> CostModel:
    """A cost of whole numbers, whose sums are exact."""
    small = st.integers(-20, 20)
    unary = tuple(
        np.array(draw(st.lists(small, min_size=c, max_size=c)), np.float64) for c in counts
    )
    ends = st.tuples(*[st.integers(0, len(counts) - 1)] * 2).filter(lambda e: e[0] < e[1])
    pairs: list[Pair] = []
    if len(counts) > 1:
        for first, second in sorted(set(draw(st.lists(ends, max_size=most_pairs)))):
            size = counts[first] * counts[second]
            table = np.array(draw(st.lists(small, min_size=size, max_size=size)), np.float64)
            pairs.append(Pair(first, second, table.reshape(counts[first], counts[second])))
    return CostModel(unary, tuple(pairs), float(draw(small)))


@st.composite
def instances(draw: st.DrawFn) -> Instance:
    """Small enough for all rows to be looked at: at most 3 ** 6."""
    counts = tuple(draw(st.lists(st.integers(1, 3), min_size=1, max_size=6)))
    limits = [
        Limit(name, draw(whole_costs(counts, 1)), float(draw(st.integers(-30, 40))))
        for name in draw(st.sampled_from([(), ("size",), ("size", "latency")]))
    ]
    return Instance(counts, draw(whole_costs(counts)), tuple(limits))


def network_like(seed: int, layers: int = 40, strength: float = 0.2) -> Instance:
    """A loss that grows as types get narrower, pairs of neighbours that make it more or less, and
    limits of size and latency that some configuration has."""
    random = np.random.default_rng(seed)
    counts = tuple(int(c) for c in random.integers(2, 5, layers))
    bits = np.array([8.0, 4.0, 2.0, 1.0])
    weights = random.lognormal(8, 1.5, layers)
    sensitivity = random.lognormal(-4, 1.5, layers)
    loss = tuple(
        s * (np.arange(c) * random.uniform(0.8, 1.2, c)) ** 2
        for s, c in zip(sensitivity, counts, strict=True)
    )
    size = tuple(w * bits[:c] / 8 for w, c in zip(weights, counts, strict=True))
    speed = tuple(
        w * random.uniform(0.2, 2) * random.uniform(0.6, 1.1, c)
        for w, c in zip(weights, counts, strict=True)
    )
    pairs: list[Pair] = []
    for first in range(layers - 1):
        scale = strength * np.sqrt(sensitivity[first] * sensitivity[first + 1])
        table = scale * random.normal(0.3, 1, (counts[first], counts[first + 1]))
        table[0], table[:, 0] = 0, 0
        pairs.append(Pair(first, first + 1, table))
    some = random.integers(0, counts, (1, layers), np.uint8)
    costs = {"size": CostModel(size), "latency": CostModel(speed)}
    limits = [Limit(name, cost, float(cost(some)[0])) for name, cost in costs.items()]
    return Instance(counts, CostModel(loss, tuple(pairs)), tuple(limits))
