"""Distances between outputs, and what is estimated from samples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from uqfc.errors import UqfcError
from uqfc.numerics import F64
from uqfc.search.sensitivity.divergence import kl_divergence, squared_error
from uqfc.search.sensitivity.estimates import NORMAL, kendall, mean_and_error, t_quantile

logits = arrays(np.float32, (3, 5), elements=st.floats(-50, 50, width=32))


@given(logits, logits)
def test_the_divergence_is_gibbs(p: F64, q: F64) -> None:
    """Not below 0 but for rounding: a sum of 5 products of p ≤ 1 and |log p| ≤ 100 + log 5, each
    with a few units of 2^-53, is wrong by less than 1e-12."""
    assert (kl_divergence([p], [q]) >= -1e-12).all()
    assert (kl_divergence([p], [p]) == 0).all()


def test_the_divergence_of_two_coins() -> None:
    p, q = np.log([[0.5, 0.5]]), np.log([[0.25, 0.75]])
    expected = 0.5 * np.log(0.5 / 0.25) + 0.5 * np.log(0.5 / 0.75)
    assert kl_divergence([p], [q]) == pytest.approx([expected], rel=1e-14)


def test_axes_are_averaged_and_outputs_added_up() -> None:
    p, q = np.log([[0.5, 0.5]]), np.log([[0.25, 0.75]])
    one = kl_divergence([p], [q])[0]
    stacked = np.stack([p, p], axis=1), np.stack([q, p], axis=1)
    assert kl_divergence([stacked[0]], [stacked[1]]) == pytest.approx([one / 2], rel=1e-14)
    assert kl_divergence([p, p], [q, q]) == pytest.approx([2 * one], rel=1e-14)
    assert squared_error([p, p], [p + 1, p + 2]).tolist() == pytest.approx([5.0])


def test_one_value_has_no_distribution() -> None:
    one = np.zeros((4, 1), np.float32)
    with pytest.raises(UqfcError, match=r"one value in its last axis.*accepted: method 'mse'"):
        kl_divergence([one], [one])


@pytest.mark.parametrize("freedom", [1, 2, 5, 7, 8, 9, 15, 31, 127, 1000])
def test_quantiles_of_student(freedom: int) -> None:
    """Within what is promised: the expansion has its largest error at 8 degrees of freedom."""
    stats = pytest.importorskip("scipy.stats")
    assert t_quantile(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=2e-4)


def test_half_the_interval_of_a_mean() -> None:
    mean, error = mean_and_error(np.array([1.0, 3.0]))
    assert mean == 2.0
    assert error == pytest.approx(12.7062)  # the deviation is √2, over √2
    _, error = mean_and_error(np.tile([1.0, 3.0], 5000))
    assert error == pytest.approx(NORMAL / 100, rel=1e-3)  # 1e4 values: t is near the normal


ranks = arrays(np.float64, 6, elements=st.integers(0, 4).map(float))


@given(ranks, ranks)
def test_kendall_is_scipys(a: F64, b: F64) -> None:
    stats = pytest.importorskip("scipy.stats")
    if len(set(a.tolist())) > 1 and len(set(b.tolist())) > 1:
        assert kendall(a, b) == pytest.approx(stats.kendalltau(a, b).statistic, abs=1e-12)


def test_rankings_without_any_difference() -> None:
    same, different = np.zeros(3), np.arange(3.0)
    assert kendall(same, same) == 1.0
    assert kendall(same, different) == 0.0
