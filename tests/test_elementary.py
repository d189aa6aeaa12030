"""The float32 elementwise functions: their errors, and what they do with special values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from uqfc.elementary import UNARY, evaluate, evaluate_pow

F32 = NDArray[np.float32]
INF = float("inf")

PARAMETERS: dict[str, tuple[float, ...]] = {
    "celu": (1.3,),
    "clip": (-1.0, 2.5),
    "elu": (1.7,),
    "hard_sigmoid": (0.2, 0.5),
    "leaky_relu": (0.01,),
    "thresholded_relu": (1.0,),
}

LARGEST_ERROR = {
    "abs": 0.0,
    "ceil": 0.0,
    "celu": 2.1,
    "clip": 0.0,
    "cos": 2.1,
    "elu": 2.0,
    "erf": 1.2,
    "exp": 0.95,
    "floor": 0.0,
    "gelu": 6.2,
    "leaky_relu": 1.0,
    "log": 0.8,
    "mish": 4.2,
    "neg": 0.0,
    "reciprocal": 0.5,
    "relu": 0.0,
    "round": 0.0,
    "selu": 1.8,
    "sigmoid": 2.3,
    "sign": 0.0,
    "silu": 3.0,
    "sin": 2.1,
    "softplus": 2.0,
    "softsign": 1.5,
    "sqrt": 0.5,
    "tanh": 2.6,
    "thresholded_relu": 0.0,
}
"""Units in the last place, as the docstrings say."""

MAGNIFIED = {"hard_sigmoid": 2.0**-23, "hard_swish": 2.0**-20, "gelu_tanh": 2.0**-22}
"""Functions whose zeros or tails magnify rounding: absolute errors."""

DENORMAL_PRODUCTS = {"mish", "silu"}
"""Below -80 a factor is denormal: an absolute error of 2**-142 comes on top."""


def samples() -> F32:
    """All magnitudes, and many values of ordinary size."""
    bits = np.arange(0, 2**32, 20011, dtype=np.uint64).astype(np.uint32)
    rng = np.random.default_rng(0)
    near = np.concatenate([rng.uniform(-12, 12, 50000), rng.uniform(-110, 100, 50000)])
    values = np.concatenate([bits.view(np.float32), near.astype(np.float32)])
    return values[~np.isnan(values)]


SAMPLES = samples()


def definition(name: str, x: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(all="ignore"):
        return UNARY[name].f64(x, *PARAMETERS.get(name, ()))


def ulps(got: F32, want: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance in units in the last place of ``want``; infinite if one is not a number."""
    with np.errstate(all="ignore"):
        rounded = want.astype(np.float32)
        finite = np.where(np.isfinite(rounded), rounded, np.finfo(np.float32).max)
        distance = np.abs(got.astype(np.float64) - want) / np.spacing(np.abs(finite))
    same = (got == rounded) | (np.isnan(want) & np.isnan(got))
    return np.where(same & ~np.isfinite(distance), 0.0, np.nan_to_num(distance, nan=np.inf))


def test_every_function_is_tested() -> None:
    assert UNARY.keys() == LARGEST_ERROR.keys() | MAGNIFIED.keys()


@pytest.mark.parametrize("name", LARGEST_ERROR)
def test_error_against_float64(name: str) -> None:
    x = SAMPLES
    if name in ("sin", "cos"):
        x = x[np.abs(x) <= 8192]
    if name in DENORMAL_PRODUCTS:
        x = x[~(x < -80)]
    got = evaluate(name, x, PARAMETERS.get(name, ()))
    assert ulps(got, definition(name, x.astype(np.float64))).max() <= LARGEST_ERROR[name]


@pytest.mark.parametrize("name", MAGNIFIED)
def test_absolute_error_against_float64(name: str) -> None:
    x = SAMPLES[np.abs(SAMPLES) < 100]
    got = evaluate(name, x, PARAMETERS.get(name, ()))
    error = np.abs(got - definition(name, x.astype(np.float64)))
    assert (error / np.maximum(1, np.abs(x))).max() <= MAGNIFIED[name]


@pytest.mark.parametrize("name", sorted(DENORMAL_PRODUCTS))
def test_denormal_products(name: str) -> None:
    x = SAMPLES[SAMPLES < -80]
    want = definition(name, x.astype(np.float64))
    unit = np.spacing(np.abs(want).astype(np.float32)).astype(np.float64)
    error = np.abs(evaluate(name, x).astype(np.float64) - want)
    finite = np.isfinite(x)
    assert (error <= LARGEST_ERROR[name] * unit + 2.0**-142)[finite].all()


@pytest.mark.parametrize("name", UNARY)
def test_nan_gives_nan(name: str) -> None:
    x = np.array([np.nan, -np.nan, 1.0], np.float32)
    got = evaluate(name, x, PARAMETERS.get(name, ()))
    assert np.isnan(got).tolist() == [True, True, False]


LIMITS: dict[str, tuple[float, float]] = {
    "abs": (INF, INF),
    "elu": (-1.7, INF),
    "erf": (-1.0, 1.0),
    "exp": (0.0, INF),
    "gelu": (0.0, INF),
    "gelu_tanh": (0.0, INF),
    "hard_sigmoid": (0.0, 1.0),
    "log": (np.nan, INF),
    "mish": (0.0, INF),
    "neg": (INF, -INF),
    "reciprocal": (0.0, 0.0),
    "relu": (0.0, INF),
    "round": (-INF, INF),
    "sigmoid": (0.0, 1.0),
    "sign": (-1.0, 1.0),
    "silu": (0.0, INF),
    "sin": (np.nan, np.nan),
    "softplus": (0.0, INF),
    "softsign": (-1.0, 1.0),
    "sqrt": (np.nan, INF),
    "tanh": (-1.0, 1.0),
}


@pytest.mark.parametrize("name", LIMITS)
def test_infinities(name: str) -> None:
    got = evaluate(name, np.array([-np.inf, np.inf], np.float32), PARAMETERS.get(name, ()))
    np.testing.assert_array_equal(got, np.array(LIMITS[name], np.float32))


@pytest.mark.parametrize(
    "name", ["erf", "tanh", "sin", "softsign", "round", "floor", "ceil", "abs"]
)
def test_zeros(name: str) -> None:
    got = evaluate(name, np.array([0.0, -0.0], np.float32))
    assert got.tolist() == [0.0, 0.0]
    assert np.signbit(got).tolist() == [False, name != "abs"]


@given(st.floats(width=32, allow_nan=False))
def test_round_floor_and_ceil_hold_for_all_magnitudes(value: float) -> None:
    x = np.array([value, 0.5, 2.5, 2.0**23 + 1, -(2.0**22) - 0.5], np.float32)
    np.testing.assert_array_equal(evaluate("round", x), np.rint(x))
    np.testing.assert_array_equal(evaluate("floor", x), np.floor(x))
    np.testing.assert_array_equal(evaluate("ceil", x), np.ceil(x))


@given(st.floats(width=32))
def test_a_scalar_is_an_array_of_one(value: float) -> None:
    x = np.float32(value)
    for name in ("exp", "gelu", "sin"):
        alone: Any = evaluate(name, np.asarray(x))
        assert alone.shape == ()
        np.testing.assert_array_equal(alone, evaluate(name, np.array([x]))[0])


def test_error_of_pow() -> None:
    rng = np.random.default_rng(0)
    count = 200_000
    x = np.abs(SAMPLES[rng.integers(0, SAMPLES.size, count)])
    scales = np.exp2(rng.integers(-4, 8, count))
    y = (rng.normal(size=count) * scales).astype(np.float32)
    x[::3] = rng.uniform(0.5, 2.0, x[::3].size)
    with np.errstate(all="ignore"):
        want = np.power(x.astype(np.float64), y.astype(np.float64))
    assert ulps(evaluate_pow(x, y), want).max() <= 1.1


_SPECIAL = (
    "0 -0 1 -1 2 -2 3 0.5 -0.5 inf -inf nan 1e-40 -1e-40 1e30 -1e30 1e38 -1e38 "
    "16777216 -16777216 16777215 -8388607"
)
SPECIAL = np.array([float(s) for s in _SPECIAL.split()], np.float32)


def test_special_cases_of_pow_are_ieee() -> None:
    x, y = np.meshgrid(SPECIAL, SPECIAL)
    got = evaluate_pow(x, y)
    with np.errstate(all="ignore"):
        want = np.power(x.astype(np.float64), y.astype(np.float64))
        rounded = want.astype(np.float32)
    assert ulps(got, want).max() <= 1.1
    number = ~np.isnan(rounded)
    np.testing.assert_array_equal(np.signbit(got[number]), np.signbit(rounded[number]))


@given(st.lists(st.floats(width=32), min_size=1, max_size=8))
def test_small_powers_are_products_and_roots(values: list[float]) -> None:
    x = np.array(values, np.float32)
    with np.errstate(all="ignore"):
        expected = {1.0: x, 2.0: x * x, 3.0: x * x * x, -1.0: np.float32(1) / x}
        expected[0.5] = np.where(x == -np.inf, np.float32(np.inf), np.sqrt(x))
    for exponent, value in expected.items():
        want = np.where(x == 1, np.float32(1), value)
        np.testing.assert_array_equal(evaluate_pow(x, np.full_like(x, exponent)), want)
