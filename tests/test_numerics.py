"""The contract, checked against models that share no code with it: fractions and Python loops."""

from __future__ import annotations

from fractions import Fraction
from math import isnan
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from uqfc import numerics
from uqfc.numerics import LANES, Activation

INT32 = st.integers(-(2**31), 2**31 - 1)
BYTES = st.integers(0, 255)
ANY_FLOAT = st.floats(width=32)
SCALES = st.floats(2.0**-40, 2.0**40, width=32)
FACTORS = st.floats(-(2.0**60), 2.0**60, width=32)


def array(value: object, dtype: type = np.float32) -> NDArray[Any]:
    return np.asarray(value, dtype)


def float32_of(value: Fraction) -> Fraction:
    """``value`` rounded half to even to 24 bits; exact for results in float32's normal range."""
    if value == 0:
        return value
    exponent = 0
    while abs(value) >= Fraction(2) ** (exponent + 24):
        exponent += 1
    while abs(value) < Fraction(2) ** (exponent + 23):
        exponent -= 1
    exponent = max(exponent, -149)
    unit = Fraction(2) ** exponent
    return round(value / unit) * unit


def saturated(v: Fraction, zero_point: int, qmin: int, qmax: int) -> int:
    """Round half to even, then saturate: the order in which NUMERICS says it."""
    return min(max(round(v) + zero_point, qmin), qmax)


@st.composite
def ranges(draw: st.DrawFn) -> tuple[int, int, int]:
    """Qmin <= zero point <= qmax of some 8-bit type."""
    low, zero, high = sorted(draw(st.lists(st.integers(-128, 255), min_size=3, max_size=3)))
    return low, zero, high


# --- quantize and dequantize ----------------------------------------------------------------------


def quantized(x: float, scale: float, bounds: tuple[int, int, int]) -> int:
    qmin, zero, qmax = bounds
    return int(numerics.quantize(array(x), array(scale), array(zero, np.int32), qmin, qmax))


@given(ANY_FLOAT, SCALES, ranges())
def test_quantize_is_one_division_then_rounding_then_saturation(
    x: float, scale: float, bounds: tuple[int, int, int]
) -> None:
    qmin, zero, qmax = bounds
    q = quantized(x, scale, bounds)
    if np.isnan(x):
        assert q == zero
    elif np.isinf(x):
        assert q == (qmax if x > 0 else qmin)
    else:
        exact = float32_of(Fraction(x) / Fraction(scale))
        assert q == saturated(exact, zero, qmin, qmax)


@given(st.lists(ANY_FLOAT.filter(lambda x: not isnan(x)), min_size=2), SCALES, ranges())
def test_quantize_is_monotone(xs: list[float], scale: float, bounds: tuple[int, int, int]) -> None:
    qmin, zero, qmax = bounds
    q = numerics.quantize(array(sorted(xs)), array(scale), array(zero, np.int32), qmin, qmax)
    assert (np.diff(q) >= 0).all()
    assert q.dtype == np.int32


@given(st.floats(-300, 300, width=32), st.floats(2.0**-20, 2.0**20, width=32), ranges())
def test_quantization_moves_a_value_in_range_by_half_a_step_at_most(
    ratio: float, scale: float, bounds: tuple[int, int, int]
) -> None:
    """Half a step in real arithmetic, and half a unit in the last place of ``x / scale``."""
    qmin, zero, qmax = bounds
    x = float(np.float32(ratio * scale))
    if not qmin - zero <= Fraction(x) / Fraction(scale) <= qmax - zero:
        return
    error = abs((quantized(x, scale, bounds) - zero) * Fraction(scale) - Fraction(x))
    assert error <= Fraction(scale) / 2 + abs(Fraction(x)) / 2**24


@given(st.integers(-200, 200), st.sampled_from([2.0**-10, 0.5, 1.0, 4.0]))
def test_ties_go_to_the_even_neighbour(n: int, scale: float) -> None:
    q = quantized((n + 0.5) * scale, scale, (-256, 0, 256))
    assert q == (n if n % 2 == 0 else n + 1)


@given(BYTES, BYTES, SCALES)
def test_dequantize_is_one_multiplication(q: int, zero: int, scale: float) -> None:
    x = numerics.dequantize(array(q, np.int32), array(scale), array(zero, np.int32))
    assert x.dtype == np.float32
    assert Fraction(float(x)) == float32_of((q - zero) * Fraction(scale))


@given(st.lists(SCALES, min_size=1, max_size=4))
def test_parameters_broadcast(scales: list[float]) -> None:
    scale, zero = array(scales)[:, None], np.arange(len(scales), dtype=np.int32)[:, None]
    x = np.linspace(-3, 3, 7, dtype=np.float32) * scale
    together = numerics.quantize(x, scale, zero, 0, 255)
    for i in range(len(scales)):
        assert (together[i] == numerics.quantize(x[i], scale[i], zero[i], 0, 255)).all()


# --- multipliers, bias, requantization ------------------------------------------------------------


@given(SCALES, SCALES, SCALES)
def test_a_multiplier_is_rounded_to_float64_then_to_float32(
    sx: float, sw: float, sy: float
) -> None:
    """The product of two float32 values is exact in float64: the division rounds, then the cast."""
    expected = np.float32(float(Fraction(sx) * Fraction(sw)) / sy)
    assert numerics.multiplier(sx, array([sw]), over=sy)[0] == expected


def test_a_multiplier_may_overflow_silently() -> None:
    assert numerics.multiplier(1e38, 1e38, over=1e-30) == np.inf


@given(INT32, FACTORS, ranges())
def test_requantize(acc: int, m: float, bounds: tuple[int, int, int]) -> None:
    qmin, zero, qmax = bounds
    v = float32_of(float32_of(Fraction(acc)) * Fraction(m))
    q = numerics.requantize(array(acc, np.int32), array(m), zero, qmin, qmax)
    assert int(q) == saturated(v, zero, qmin, qmax)


@given(st.floats(-1e12, 1e12), SCALES, st.integers(-(2**33), 2**33))
def test_fold_bias_rounds_in_float64_or_says_that_it_does_not_fit(
    bias: float, scale: float, term: int
) -> None:
    total = round(Fraction(bias / scale)) + term
    terms = np.array([term], np.int64)
    if abs(total) < 2**31:
        assert numerics.fold_bias(array([bias], np.float64), array([scale]), terms)[0] == total
    elif abs(total) > 2**31:
        with pytest.raises(OverflowError, match="does not fit int32"):
            numerics.fold_bias(array([bias], np.float64), array([scale]), terms)


@pytest.mark.parametrize("bias", [np.nan, np.inf, -np.inf])
def test_fold_bias_refuses_what_is_no_number(bias: float) -> None:
    with pytest.raises(OverflowError):
        numerics.fold_bias(array([bias], np.float64), array([1.0]), np.zeros(1, np.int64))


# --- elementwise ----------------------------------------------------------------------------------


@given(BYTES, BYTES, FACTORS, BYTES, BYTES, FACTORS, ranges())
def test_add_rounds_both_products_and_their_sum(
    a: int, za: int, ma: float, b: int, zb: int, mb: float, bounds: tuple[int, int, int]
) -> None:
    qmin, zero, qmax = bounds
    left = float32_of((a - za) * Fraction(ma))
    right = float32_of((b - zb) * Fraction(mb))
    integers = [array(v, np.int32) for v in (a, b)]
    q = numerics.add_quantized(
        integers[0], za, array(ma), integers[1], zb, array(mb), qmin - zero, qmax - zero, zero
    )
    assert int(q) == saturated(float32_of(left + right), zero, qmin, qmax)


@given(BYTES, BYTES, BYTES, BYTES, FACTORS, ranges())
def test_mul_is_one_exact_product_and_one_rounded(
    a: int, za: int, b: int, zb: int, m: float, bounds: tuple[int, int, int]
) -> None:
    qmin, zero, qmax = bounds
    v = float32_of((a - za) * (b - zb) * Fraction(m))
    q = numerics.mul_quantized(
        array(a, np.int32), za, array(b, np.int32), zb, array(m), qmin - zero, qmax - zero, zero
    )
    assert int(q) == saturated(v, zero, qmin, qmax)


@given(SCALES, BYTES, SCALES, ranges().filter(lambda b: b[0] >= 0))
def test_a_lookup_table_is_the_function_entry_by_entry(
    sx: float, zx: int, sy: float, bounds: tuple[int, int, int]
) -> None:
    qmin, zero, qmax = bounds
    table = numerics.lookup_table(np.tanh, sx, zx, sy, zero, qmin, qmax)
    assert table.dtype == np.uint8
    for i in range(256):
        real = float(np.tanh(np.float64(i - zx) * np.float64(sx)))
        assert table[i] == saturated(Fraction(real / sy), zero, qmin, qmax)


def test_a_lookup_table_saturates_infinities_and_takes_nan_as_zero() -> None:
    """``1 / x`` at zero is infinite, ``log`` of a negative number is not a number."""
    with np.errstate(divide="ignore"):
        reciprocal = numerics.lookup_table(np.reciprocal, 1.0, 3, 1.0, 10, 0, 200)
    assert reciprocal[3] == 200
    assert numerics.lookup_table(np.log, 1.0, 3, 1.0, 10, 0, 200)[0] == 10


@given(ANY_FLOAT, st.integers(-300, 0), st.integers(0, 300))
def test_round_clamped(v: float, low: int, high: int) -> None:
    q = int(numerics.round_clamped(array(v), low, high))
    if np.isnan(v):
        assert q == 0
    elif np.isinf(v):
        assert q == (high if v > 0 else low)
    else:
        assert q == min(max(round(v), low), high)


@given(st.floats(-100, 100, width=32))
def test_clamps_are_the_activations_that_have_bounds(x: float) -> None:
    for name, params in numerics.ACTIVATIONS.items():
        activation = Activation(name, {"clip": (-2.0, 3.0)}.get(name, ()))
        if activation.bounds is not None:
            low, high = activation.bounds
            assert float(activation(numerics.NUMPY, array(x))) == min(max(x, low), high)
        else:
            assert params is not numerics.relu


# --- float32 reductions ---------------------------------------------------------------------------


def scalar_strided_sum(values: list[np.float32]) -> np.float32:
    """One element at a time: lane ``i % 16`` takes element i, then halves are added."""
    lanes = [np.float32(0)] * LANES
    for i, value in enumerate(values):
        lanes[i % LANES] = np.float32(lanes[i % LANES] + value)
    while len(lanes) > 1:
        half = len(lanes) // 2
        lanes = [np.float32(lanes[i] + lanes[i + half]) for i in range(half)]
    return lanes[0]


@given(st.lists(st.floats(-(2.0**100), 2.0**100, width=32), max_size=70))
def test_strided_sum(xs: list[float]) -> None:
    values = array(xs)
    expected = scalar_strided_sum(list(values))
    assert numerics.strided_sum(values).tobytes() == expected.tobytes()


@given(st.integers(1, 3), st.integers(0, 40), st.integers(1, 3), st.integers(0, 99))
def test_strided_matmul(m: int, k: int, n: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    a = random.standard_normal((m, k)).astype(np.float32)
    b = random.standard_normal((k, n)).astype(np.float32)
    product = numerics.strided_matmul(a, b)
    for i in range(m):
        for j in range(n):
            terms = [np.float32(a[i, t] * b[t, j]) for t in range(k)]
            assert product[i, j].tobytes() == scalar_strided_sum(terms).tobytes()
