"""The exact optimum: equal to looking at every configuration."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.search.instances import Instance, instances, network_like, space_of
from uqfc.errors import UqfcError
from uqfc.search.costs import CostModel
from uqfc.search.ilp import Limit, minimize, relax

pytest.importorskip("scipy")


def within(instance: Instance) -> tuple[np.ndarray, np.ndarray]:
    """All rows, and which of them respect the limits."""
    rows = space_of(instance.counts).all_rows()
    fine = np.ones(len(rows), np.bool_)
    for limit in instance.limits:
        fine &= limit.cost(rows) <= limit.most
    return rows, fine


@given(instances())
@settings(max_examples=60)
def test_equals_brute_force(instance: Instance) -> None:
    rows, fine = within(instance)
    found = minimize(instance.loss, instance.limits)
    if not fine.any():
        assert found.row is None
        assert found.bound == np.inf
        return
    assert found.row is not None
    best = instance.loss(rows)[fine].min()
    assert found.value == instance.loss.one(found.row) == best
    assert best - 1e-6 * 20 <= found.bound <= best  # the solver's gap, of a coefficient of 20
    assert all(limit.cost.one(found.row) <= limit.most for limit in instance.limits)


@given(instances(), st.integers(1, 4))
@settings(max_examples=20)
def test_exclusion_enumerates_from_the_best_on(instance: Instance, count: int) -> None:
    rows, fine = within(instance)
    expected = np.sort(instance.loss(rows)[fine])[:count]
    excluded: list[np.ndarray] = []
    for value in expected:
        found = minimize(instance.loss, instance.limits, excluded)
        assert found.row is not None
        assert found.value == value
        excluded.append(found.row)
    assert len({row.tobytes() for row in excluded}) == len(excluded)


@given(instances())
@settings(max_examples=20)
def test_relaxations_are_the_least(instance: Instance) -> None:
    rows, fine = within(instance)
    if fine.any() or not instance.limits:
        return
    found = relax(instance.limits)
    costs = np.stack([limit.cost(rows) for limit in instance.limits])
    most = np.array([limit.most for limit in instance.limits])
    for place, shortfall in enumerate(found.shortfalls):
        others = np.delete(costs <= most[:, None], place, axis=0).all(axis=0)
        assert shortfall.alone == costs[place].min()
        assert shortfall.least == (costs[place][others].min() if others.any() else None)
    grown = most + [found.together[limit.name] for limit in instance.limits]
    assert all(
        limit.cost.one(found.row) <= g for limit, g in zip(instance.limits, grown, strict=True)
    )


def test_a_network_of_forty_layers_is_solved_to_optimality() -> None:
    instance = network_like(3)
    found = minimize(instance.loss, instance.limits)
    assert found.row is not None
    assert found.value - found.bound <= 1e-6 * max(u.max() for u in instance.loss.unary)


def test_a_limit_that_is_no_number_is_refused() -> None:
    with pytest.raises(UqfcError, match="size: the limit is not a number"):
        Limit("size", CostModel((np.ones(2),)), float("nan"))
