"""Tree search and evolution: near the optimum, within the limits, the same with the same seed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.search.instances import Instance, instances, network_like, space_of
from uqfc.search import ilp
from uqfc.search.costs import CostModel, Pair
from uqfc.search.evolution import Evolution
from uqfc.search.mcts import TreeSearch
from uqfc.search.policy import Policy, cost_features
from uqfc.search.scores import Scores, Strategy, minimize
from uqfc.search.space import Rows

MAKERS: dict[str, Callable[[Instance, int], Strategy]] = {
    "mcts": lambda i, seed: TreeSearch(i.counts, seed, limits=i.limits),
    "mcts without limits": lambda i, seed: TreeSearch(i.counts, seed),
    "evolution": lambda i, seed: Evolution(i.counts, seed),
}


def guided(instance: Instance, seed: int) -> TreeSearch:
    """As ``search_bit_width`` uses it: the policy sees costs, sensitive layers come first."""
    costs = [instance.loss, *(limit.cost for limit in instance.limits)]
    policy = Policy(instance.counts, cost_features(costs))
    spread = [float(np.ptp(terms)) for terms in instance.loss.unary]
    order = sorted(range(len(spread)), key=lambda layer: -spread[layer])
    return TreeSearch(instance.counts, seed, policy=policy, limits=instance.limits, order=order)


def test_tree_search_is_within_one_percent_of_the_exact_optimum() -> None:
    """50 instances of 16 layers with 2 to 4 types each, 15 interactions, two limits.

    ``benchmarks/search.py`` has larger ones."""
    pytest.importorskip("scipy")
    for seed in range(50):
        instance = network_like(seed, layers=16)
        exact = ilp.minimize(instance.loss, instance.limits)
        found = minimize(
            guided(instance, seed), instance.objective, 60_000, refine=instance.counts, seed=seed
        )
        assert found.feasible
        assert exact.value <= found.value + 1e-9 * abs(exact.value)
        assert found.value <= 1.01 * exact.value


def repelling(seed: int, layers: int = 16) -> Instance:
    """Narrow types cost little, but for pairs of layers that must not both be narrow, which cost
    up to 20 times as much: what a sum over layers cannot say."""
    random = np.random.default_rng(seed)
    counts = (2,) * layers
    unary = tuple(np.array([0.0, s]) for s in random.uniform(0.5, 1.5, layers))
    pairs = tuple(
        Pair(a, b, np.array([[0.0, 0.0], [0.0, random.uniform(5, 20)]]))
        for a in range(layers)
        for b in range(a + 1, layers)
        if random.random() < 0.4
    )
    size = CostModel(tuple(np.array([2.0, 1.0]) for _ in range(layers)))
    limit = ilp.Limit("size", size, 1.6 * layers)
    return Instance(counts, CostModel(unary, pairs), (limit,))


@pytest.mark.parametrize("seed", range(5))
def test_with_strong_interactions_tree_search_beats_the_additive_optimum(seed: int) -> None:
    """The tree search asks for true values, 300 times; the additive optimum knows each layer's."""
    pytest.importorskip("scipy")
    instance = repelling(seed)
    additive = ilp.minimize(instance.loss.without_pairs(), instance.limits)
    assert additive.row is not None
    found = minimize(
        TreeSearch(instance.counts, seed, limits=instance.limits), instance.objective, 300
    )
    assert found.feasible
    assert found.value < instance.loss.one(additive.row)


@pytest.mark.parametrize("maker", MAKERS)
@given(instance=instances(), seed=st.integers(0, 2**32))
@settings(max_examples=25)
def test_what_is_feasible_and_seen_is_not_lost(maker: str, instance: Instance, seed: int) -> None:
    seen: list[Scores] = []

    def objective(rows: Rows) -> Scores:
        seen.append(instance.objective(rows))
        return seen[-1]

    found = minimize(MAKERS[maker](instance, seed), objective, 60, batch=8)
    keys = [scores.key(i) for scores in seen for i in range(len(scores.violation))]
    assert found.key == min(keys)
    assert found.feasible == any(violation <= 0 for violation, _ in keys)
    assert found.evaluations == len(keys)
    assert instance.objective(found.row[None]).key(0) == found.key


@pytest.mark.parametrize("maker", MAKERS)
def test_a_seed_means_the_same_search(maker: str) -> None:
    def proposals(seed: int) -> list[bytes]:
        instance = network_like(0, layers=10)
        strategy = MAKERS[maker](instance, seed)
        rows: list[bytes] = []
        for _ in range(10):
            asked = strategy.ask(7)
            rows += [row.tobytes() for row in asked]
            strategy.tell(asked, instance.objective(asked))
        return rows

    assert proposals(1) == proposals(1) != proposals(2)
    assert len(set(proposals(1))) == len(proposals(1))


@pytest.mark.parametrize("maker", MAKERS)
def test_a_small_space_is_looked_at_completely_and_then_left(maker: str) -> None:
    instance = Instance((2, 3), CostModel((np.array([1.0, 0.0]), np.array([3.0, 2.0, 1.0]))), ())
    strategy = MAKERS[maker](instance, 0)
    seen: set[bytes] = set()
    for _ in range(30):
        rows = strategy.ask(2)
        if len(rows):
            strategy.tell(rows, instance.objective(rows))
        seen |= {row.tobytes() for row in rows}
    assert seen == {row.tobytes() for row in space_of((2, 3)).all_rows()}


def test_infeasible_leaves_are_graded_by_how_much_they_break() -> None:
    instance = Instance((3,) * 8, CostModel((np.zeros(3),) * 8), ())
    wanted = np.array([2, 0, 1, 1, 2, 0, 0, 2], np.uint8)

    def objective(rows: Rows) -> Scores:
        wrong = (rows != wanted).sum(axis=1).astype(np.float64)
        return Scores(np.zeros((len(rows), 1)), wrong)

    found = minimize(TreeSearch(instance.counts, 0), objective, 600)
    assert found.feasible


def test_a_policy_learns_rows_and_never_excludes_any() -> None:
    policy = Policy((2, 3))
    assert policy.probabilities.tolist()[0] == [0.5, 0.5, 0.0]
    for _ in range(200):
        policy.learn(np.array([[1, 2]], np.uint8))
    assert policy.probabilities[0, 1] > 0.9
    assert policy.probabilities[1, 2] > 0.9
    assert policy.probabilities[1, 0] > 0.005
    np.testing.assert_allclose(policy.probabilities.sum(axis=1), 1.0)
