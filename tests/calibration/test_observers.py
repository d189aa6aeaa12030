from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from uqfc.calibration import CalibrationMethod, Observer, activation_parameters, make_observer
from uqfc.errors import CalibrationError
from uqfc.numerics import F32, dequantize, quantize

FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)
ARRAYS = hnp.arrays(np.float32, st.integers(1, 40), elements=FINITE)
METHODS = list(CalibrationMethod)
SEARCHES = [CalibrationMethod.KL_DIVERGENCE, CalibrationMethod.MSE]
ORDERLESS = [m for m in METHODS if m != CalibrationMethod.MOVING_AVERAGE]

OPTIONS: dict[CalibrationMethod, dict[str, Any]] = {
    CalibrationMethod.MINMAX: {},
    CalibrationMethod.MOVING_AVERAGE: {"rate": 0.25},
    CalibrationMethod.PERCENTILE: {"percentile": 90.0, "bins": 64},
    CalibrationMethod.KL_DIVERGENCE: {"levels": 16, "bins": 64},
    CalibrationMethod.MSE: {"levels": 16, "bins": 64},
}


def observe(method: str, *arrays: F32, **options: Any) -> Observer:
    observer = make_observer(method, **options)
    for x in arrays:
        observer.update(x)
    return observer


def small(method: CalibrationMethod, *arrays: F32) -> Observer:
    return observe(method, *arrays, **OPTIONS[method])


@pytest.mark.parametrize("method", ORDERLESS)
@given(arrays=st.lists(ARRAYS, min_size=1, max_size=4))
@settings(max_examples=25)
def test_order_and_split_do_not_matter(method: CalibrationMethod, arrays: list[F32]) -> None:
    expected = small(method, np.concatenate(arrays))
    merged = make_observer(method, **OPTIONS[method])
    for x in reversed(arrays):
        merged.merge(small(method, x))
    for observer in (small(method, *arrays), small(method, *arrays[::-1]), merged):
        assert observer.state() == expected.state()
        assert observer.range() == expected.range()


@pytest.mark.parametrize("method", METHODS)
@given(arrays=st.lists(ARRAYS, min_size=1, max_size=4))
@settings(max_examples=25)
def test_a_range_is_within_the_data(method: CalibrationMethod, arrays: list[F32]) -> None:
    low, high = small(method, *arrays).range()
    whole = np.concatenate(arrays)
    assert float(whole.min()) <= low <= high <= float(whole.max())


@pytest.mark.parametrize("method", METHODS)
@given(arrays=st.lists(ARRAYS, max_size=3))
@settings(max_examples=25)
def test_state_survives_json(method: CalibrationMethod, arrays: list[F32]) -> None:
    observer = small(method, *arrays)
    again = Observer.from_state(json.loads(json.dumps(observer.state())))
    assert type(again) is type(observer)
    assert again.state() == observer.state()
    assert again.empty == (not arrays)
    if arrays:
        assert again.range() == observer.range()


@given(ARRAYS, ARRAYS)
def test_more_data_never_shrinks_a_minmax_range(a: F32, b: F32) -> None:
    low, high = observe("minmax", a).range()
    wide_low, wide_high = observe("minmax", a, b).range()
    assert wide_low <= low
    assert high <= wide_high


@given(ARRAYS, st.floats(51, 100), st.floats(51, 100))
def test_a_higher_percentile_never_shrinks_a_range(x: F32, p: float, q: float) -> None:
    narrow = observe("percentile", x, percentile=min(p, q)).range()
    wide = observe("percentile", x, percentile=max(p, q)).range()
    assert wide[0] <= narrow[0]
    assert narrow[1] <= wide[1]


@given(ARRAYS)
def test_percentile_100_is_minmax_above(x: F32) -> None:
    assert observe("percentile", x, percentile=100.0).range()[1] == float(x.max())


def test_the_moving_average_by_hand() -> None:
    arrays = [
        np.array([0, 8], np.float32),
        np.array([-4, 4], np.float32),
        np.array([-8, 16], np.float32),
    ]
    observer = observe("moving_average", *arrays, rate=0.5)
    assert observer.range() == (-5.0, 11.0)
    other = observe("moving_average", np.array([-1, 3], np.float32), rate=0.5)
    other.merge(observer)  # one update against three
    assert other.range() == (0.25 * -1 + 0.75 * -5, 0.25 * 3 + 0.75 * 11)


@pytest.mark.parametrize("method", SEARCHES)
@given(x=ARRAYS)
@settings(max_examples=25)
def test_a_symmetric_search_gives_a_symmetric_range(method: CalibrationMethod, x: F32) -> None:
    low, high = observe(method, x, symmetric=True, **OPTIONS[method]).range()
    assert low == -high
    assert 0 <= high <= np.abs(x).max()


@pytest.mark.parametrize("method", SEARCHES)
def test_an_outlier_is_clipped(method: CalibrationMethod) -> None:
    x = np.random.default_rng(0).standard_normal(100_000).astype(np.float32)
    x[:3] = 30, -30, 29
    low, high = observe(method, x, levels=16).range()
    assert -15 < low < -1.5
    assert 1.5 < high < 15


@pytest.mark.parametrize("method", SEARCHES)
def test_spikes_do_not_hide_the_rest(method: CalibrationMethod) -> None:
    # After a ReLU6: half of the values at 0, a tenth at 6.
    x = np.clip(np.random.default_rng(0).normal(0, 4.5, 100_000), 0, 6).astype(np.float32)
    low, high = observe(method, x).range()
    assert low == 0
    assert high == 6
    # A spike at zero alone costs nothing and so decides nothing.
    rest = x[(x > 0) & (x < 6)]
    padded = np.concatenate([rest, np.zeros(10_000_000, np.float32)])
    assert observe(method, padded).range() == observe(method, rest, np.zeros(1, np.float32)).range()


def squared_error(x: F32, low: float, high: float, levels: int) -> float:
    p = activation_parameters(low, high, 0, levels - 1)
    scale, zero_point = np.float32(p.scale), np.int32(p.zero_point)
    q = quantize(x, np.asarray(scale), np.asarray(zero_point), p.qmin, p.qmax)
    return float(np.square(dequantize(q, np.asarray(scale), np.asarray(zero_point)) - x).sum())


@pytest.mark.parametrize("levels", [4, 16, 256])
@pytest.mark.parametrize("shape", ["normal", "laplace", "hard_swish", "uniform"])
def test_mse_beats_minmax_on_the_values_themselves(levels: int, shape: str) -> None:
    rng = np.random.default_rng(1)
    normal = rng.standard_normal(50_000)
    values = {
        "normal": normal,
        "laplace": rng.laplace(size=50_000),
        "hard_swish": 3 * normal * np.clip(normal / 2 + 0.5, 0, 1),
        "uniform": rng.uniform(-1, 3, 50_000),
    }
    x = values[shape].astype(np.float32)
    mse = observe("mse", x, levels=levels)
    minmax = observe("minmax", x)
    bound = 1.001 if shape == "uniform" else 1.0  # nothing to gain: only the bins' coarseness
    assert squared_error(x, *mse.range(), levels) <= bound * squared_error(
        x, *minmax.range(), levels
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [0.0, -0.0, 3.5, -2.0, 1e-45, 3e38])
def test_constant_tensors(method: CalibrationMethod, value: float) -> None:
    x = np.full(10, value, np.float32)
    low, high = small(method, x).range()
    assert low == high == float(x[0])


def test_memory_does_not_grow_with_the_data() -> None:
    observer = make_observer("mse")
    rng = np.random.default_rng(0)
    sizes = set[int]()
    for i in range(50):
        observer.update(rng.normal(0, 1 + i, 10_000).astype(np.float32))
        sizes.add(len(observer.state()["data"]["counts"]))
    assert max(sizes) <= 4096
    assert sum(observer.state()["data"]["counts"]) == 500_000


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_named(method: CalibrationMethod, bad: float) -> None:
    x = np.zeros((2, 3, 4), np.float32)
    observer = small(method, x)
    before = observer.state()
    x[1, 0, 2] = bad
    match = r"tensor 'conv1': \S+ at index \(1, 0, 2\) in sample 7 \(1 of 24 elements"
    with pytest.raises(CalibrationError, match=match):
        observer.update(x, name="conv1", sample=7)
    assert observer.state() == before


@pytest.mark.parametrize("method", METHODS)
def test_no_data_is_an_error(method: CalibrationMethod) -> None:
    observer = make_observer(method)
    observer.update(np.zeros((0, 3), np.float32))
    with pytest.raises(CalibrationError, match="tensor 'x': no calibration data"):
        observer.range("x")


def test_wrong_methods_and_options_are_named() -> None:
    with pytest.raises(CalibrationError, match=r"method 'entropy'; accepted: minmax, moving_av"):
        make_observer("entropy")
    with pytest.raises(CalibrationError, match=r"mse: unknown option.* rate; accepted: levels"):
        make_observer("mse", rate=1)
    with pytest.raises(CalibrationError, match=r"minmax: .*accepted: none"):
        make_observer("minmax", bins=64)
    with pytest.raises(CalibrationError, match="rate is 0; accepted"):
        make_observer("moving_average", rate=0)
    with pytest.raises(CalibrationError, match="percentile is 50; accepted"):
        make_observer("percentile", percentile=50)
    with pytest.raises(CalibrationError, match="mse: levels is 1; accepted"):
        make_observer("mse", levels=1)
    with pytest.raises(CalibrationError, match="do not merge"):
        make_observer("mse").merge(make_observer("mse", levels=16))
    with pytest.raises(CalibrationError, match="do not merge"):
        make_observer("mse").merge(make_observer("minmax"))
