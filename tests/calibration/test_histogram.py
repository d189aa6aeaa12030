from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from uqfc.calibration.histogram import MIN_EXPONENT, Histogram, grid_of
from uqfc.errors import CalibrationError
from uqfc.numerics import F32

FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)
ARRAYS = hnp.arrays(np.float32, st.integers(1, 40), elements=FINITE)


def histogram_of(*arrays: F32, bins: int = 64) -> Histogram:
    histogram = Histogram(bins)
    for x in arrays:
        histogram.update(x, float(x.min()), float(x.max()))
    return histogram


@given(ARRAYS, st.integers(16, 100))
def test_every_value_is_counted_in_its_bin(x: F32, bins: int) -> None:
    h = histogram_of(x, bins=bins)
    edges = h.grid.edges
    wide = x.astype(np.float64)
    for k, (low, high) in enumerate(itertools.pairwise(edges)):
        assert h.counts[k] == np.count_nonzero((low <= wide) & (wide < high))
    assert h.total == x.size
    assert h.zeros == np.count_nonzero(x == 0)


@given(FINITE, FINITE, st.integers(16, 5000))
def test_the_grid_is_the_finest_that_fits(a: float, b: float, bins: int) -> None:
    low, high = min(a, b, 0.0), max(a, b, 0.0)
    grid = grid_of(min(a, b), max(a, b), bins)
    assert grid.edges[0] <= low
    assert high < grid.edges[-1]
    assert grid.count <= bins
    if grid.exponent > MIN_EXPONENT:
        finer = grid.width / 2
        assert np.floor(high / finer) - np.floor(low / finer) + 1 > bins


@given(st.lists(ARRAYS, min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_order_and_split_do_not_matter(arrays: list[F32], random: object) -> None:
    whole = np.concatenate(arrays)
    expected = histogram_of(whole).state()
    assert histogram_of(*arrays).state() == expected
    assert histogram_of(*arrays[::-1]).state() == expected
    assert histogram_of(*[x[None] for x in np.sort(whole)]).state() == expected


@given(ARRAYS, ARRAYS, ARRAYS)
def test_merging_is_observing_all(a: F32, b: F32, c: F32) -> None:
    expected = histogram_of(a, b, c).state()
    left, right = histogram_of(a), histogram_of(b)
    left.merge(right)
    left.merge(histogram_of(c))
    assert left.state() == expected
    right.merge(histogram_of(c))
    right.merge(histogram_of(a))
    assert right.state() == expected
    empty = Histogram(64)
    empty.merge(left)
    left.merge(Histogram(64))
    assert empty.state() == left.state() == expected


@given(hnp.arrays(np.float32, (3, 4, 5), elements=FINITE))
def test_any_memory_layout(x: F32) -> None:
    expected = histogram_of(x).state()
    assert histogram_of(x.transpose(2, 0, 1)).state() == expected
    assert histogram_of(np.repeat(x, 2, axis=1)[:, ::2]).state() == expected


def test_blocks_are_all_counted() -> None:
    x = np.arange(100_003, dtype=np.float32)
    h = histogram_of(x, bins=1 << 17)
    assert h.grid.width == 1.0
    assert np.array_equal(h.counts, np.ones(100_003, np.int64))


@given(st.lists(ARRAYS, max_size=3))
def test_state_survives_json(arrays: list[F32]) -> None:
    h = histogram_of(*arrays)
    again = Histogram.from_state(json.loads(json.dumps(h.state())))
    assert again.state() == h.state()
    assert again.grid == h.grid


@given(ARRAYS, st.floats(0, 1), st.floats(0, 1))
def test_quantiles_are_monotonic_and_within_the_data(x: F32, p: float, q: float) -> None:
    h = histogram_of(x)
    low, high = sorted((p, q))
    assert float(x.min()) <= h.quantile(low) <= h.quantile(high) <= float(x.max())
    assert h.quantile(1.0) == float(x.max())


@given(ARRAYS, st.floats(0, 1))
def test_a_quantile_is_within_a_bin_of_the_exact_one(x: F32, share: float) -> None:
    h = histogram_of(x)
    exact = float(np.quantile(x.astype(np.float64), share, method="inverted_cdf"))
    assert abs(h.quantile(share) - exact) <= h.grid.width


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(CalibrationError, match="bins is 3; accepted: 16 to"):
        Histogram(3)
    with pytest.raises(CalibrationError, match="64 and 128 bins"):
        Histogram(64).merge(Histogram(128))
    with pytest.raises(CalibrationError, match="without data"):
        Histogram().quantile(0.5)
    with pytest.raises(CalibrationError, match="counts"):
        Histogram.from_state({**Histogram().state(), "counts": [1, 2]})
