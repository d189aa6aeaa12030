"""Pareto fronts by their definition."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from uqfc.search.pareto import crowding, non_dominated, ranks

points = st.lists(st.tuples(*[st.integers(0, 4)] * 3), min_size=1, max_size=25)


def beats(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    return all(x <= y for x, y in zip(a, b, strict=True)) and a != b


@given(points)
def test_the_front_is_what_no_other_point_dominates(given_points: list[tuple[int, ...]]) -> None:
    front = non_dominated(np.array(given_points, np.float64))
    expected = [not any(beats(other, p) for other in given_points) for p in given_points]
    assert front.tolist() == expected


@given(points)
def test_ranks_peel_one_front_after_the_other(given_points: list[tuple[int, ...]]) -> None:
    array = np.array(given_points, np.float64)
    rank = ranks(array, np.zeros(len(array)))
    for level in range(rank.max() + 1):
        left = rank >= level
        assert (rank[left] == level).tolist() == non_dominated(array[left]).tolist()


def test_less_violation_comes_first() -> None:
    found = ranks(np.array([[5.0], [1.0], [0.0], [0.0]]), np.array([-1.0, 0.0, 2.0, 1.0]))
    assert found.tolist() == [1, 0, 3, 2]


def test_crowding_of_a_line() -> None:
    found = crowding(np.array([[0.0, 3.0], [1.0, 2.0], [3.0, 0.0]]))
    assert found.tolist() == [np.inf, 2.0, np.inf]
