"""From losses to accuracies: the fitted curve, its inverse, and what it misses."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from uqfc.search.costs import CostModel
from uqfc.search.surrogate import Residuals, Surrogate, fit_drop

values = st.lists(st.tuples(st.floats(0, 10), st.floats(-0.1, 0.9)), max_size=12)


@given(values)
def test_the_curve_never_falls_and_starts_at_zero(points: list[tuple[float, float]]) -> None:
    curve = fit_drop([x for x, _ in points], [y for _, y in points])
    assert curve.losses[0] == curve.drops[0] == 0
    assert list(curve.losses) == sorted(set(curve.losses))
    assert list(curve.drops) == sorted(curve.drops)
    grid = curve(np.linspace(0, 20, 50))
    assert (np.diff(grid) >= -1e-12).all()  # rounding of the interpolation


@given(values, st.floats(0, 2))
def test_the_largest_loss_costs_no_more_than_was_asked(
    points: list[tuple[float, float]], drop: float
) -> None:
    curve = fit_drop([x for x, _ in points], [y for _, y in points])
    most = curve.largest_loss(drop)
    if np.isfinite(most):
        assert curve(np.array([most]))[0] <= drop + 1e-9 * (1 + drop)  # rounding of the inverse
        more = curve(np.array([most * 1.01 + 1e-6]))[0]
        assert more >= drop - 1e-9 * (1 + drop) or curve.drops[-1] == 0


def test_points_in_order_are_met_and_others_are_pooled() -> None:
    assert fit_drop([1, 2, 3], [0.1, 0.2, 0.5]).drops == (0.0, 0.1, 0.2, 0.5)
    assert fit_drop([1, 2, 4], [0.1, 0.5, 0.3]).losses == (0.0, 1.0, 3.0)
    assert fit_drop([1, 2, 4], [0.1, 0.5, 0.3]).drops == (0.0, 0.1, 0.4)


def test_a_drop_below_zero_cannot_be_asked_for() -> None:
    assert fit_drop([1.0], [0.1]).largest_loss(-0.01) == -1
    assert fit_drop([1.0], [0.0]).largest_loss(0.0) == np.inf


def test_residuals_fade_with_the_distance() -> None:
    rows = np.zeros((1, 10), np.uint8)
    residuals = Residuals(rows, np.array([0.2]))
    near, far = rows.copy(), np.ones_like(rows)
    near[0, 0] = 1
    at, beside, away = (float(residuals(r)[0]) for r in (rows, near, far))
    assert 0.15 < at <= 0.2
    assert at > beside > 0
    assert away == 0
    assert Residuals(rows[:0], np.empty(0))(rows).tolist() == [0.0]


def test_calibration_moves_latencies_by_the_median() -> None:
    cost = CostModel((np.array([2.0, 1.0]),))
    rows = np.array([[0], [1], [1]], np.uint8)
    surrogate = Surrogate(cost, cost, cost)
    found = surrogate.calibrated(rows, np.zeros(3), np.array([5.0, 3.5, np.nan]))
    assert found.latency is not None
    assert found.latency(rows).tolist() == [4.75, 3.75, 3.75]
