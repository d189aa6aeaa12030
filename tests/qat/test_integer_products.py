"""Exact sums of integer products in floats, and the proof of their type."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uqfc.elementary import UNARY, evaluate, evaluate_pow
from uqfc.elementary_special import power
from uqfc.interpreter import integer_conv2d, integer_linear
from uqfc.numerics import ACTIVATIONS, strided_matmul, strided_sum

torch = pytest.importorskip("torch")

from tests.passes.graphs import same_bits  # noqa: E402
from uqfc.qat.integer import arithmetic, float_sums  # noqa: E402
from uqfc.qat.integer.products import (  # noqa: E402
    EXACT_FLOAT32,
    LARGEST_OPERAND,
    ExactWeight,
    SumWindow,
    largest_sum,
    product_dtype,
    sum_conv2d,
    sum_linear,
)

WEIGHTS = st.lists(st.integers(-300, 300), min_size=1, max_size=6)


@given(WEIGHTS)
def test_no_sum_of_some_terms_exceeds_the_bound(weights: list[int]) -> None:
    """Every subset, with the activations at the ends of their range that make it extreme."""
    bound = largest_sum(torch.tensor([weights]))
    sums = [
        255 * sum(chosen)
        for size in range(len(weights) + 1)
        for chosen in combinations(weights, size)
    ]
    assert max(map(abs, sums)) == bound


@given(st.integers(0, 1 << 54), st.integers(0, 1000))
def test_the_type_holds_every_integer_up_to_the_bound(bound: int, operand: int) -> None:
    if bound >= 1 << 53:
        with pytest.raises(OverflowError, match="sums may reach"):
            product_dtype(bound, operand)
        return
    dtype = product_dtype(bound, operand)
    assert (dtype == torch.float32) == (bound < EXACT_FLOAT32 and operand <= LARGEST_OPERAND)
    around = torch.tensor([bound - 1, bound, -bound])
    assert torch.equal(around.to(dtype).to(torch.int64), around)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_operands_are_exact_in_whatever_a_backend_rounds_them_to(dtype: str) -> None:
    every = torch.arange(-LARGEST_OPERAND, LARGEST_OPERAND + 1)
    assert torch.equal(every.to(getattr(torch, dtype)).to(torch.int64), every)


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, SumWindow, int]:
    """Bytes [N, H, W, C], weights [O, kh, kw, C / groups] up to ``largest``, window, padding."""
    kernel, padding = draw(st.sampled_from([(1, 1), (3, 3), (2, 3)])), draw(st.integers(0, 2))
    dilations = draw(st.sampled_from([(1, 1), (2, 1)]))
    strides = draw(st.sampled_from([(1, 1), (2, 1), (3, 2)]))
    groups, per_group, out_per_group = (draw(st.integers(1, n)) for n in (3, 4, 3))
    seed, largest = draw(st.integers(0, 99)), draw(st.sampled_from([1, 8, 127, 255, 20_000]))
    random = np.random.default_rng(seed)
    x = random.integers(0, 256, (2, 7, 6, groups * per_group)).astype(np.uint8)
    shape = (groups * out_per_group, *kernel, per_group)
    weight = random.integers(-largest, largest + 1, shape).astype(np.int32)
    pads = (padding, padding, draw(st.integers(0, 2)), draw(st.integers(0, 2)))
    return x, weight, SumWindow(strides, pads, dilations, groups), draw(st.integers(0, 255))


@settings(max_examples=60)
@given(convolutions())
def test_convolutions(case: tuple[np.ndarray, np.ndarray, SumWindow, int]) -> None:
    x, weight, window, pad_value = case
    expected = integer_conv2d(
        x.astype(np.int32),
        weight,
        window.strides,
        window.padding,
        window.dilations,
        window.groups,
        pad_value,
    )
    exact = ExactWeight.of(torch.from_numpy(weight))
    found = sum_conv2d(torch.from_numpy(x), exact, window, pad_value)
    assert np.array_equal(expected, found.to(torch.int64).numpy())
    assert np.abs(expected).max() <= exact.bound


@given(st.integers(1, 300), st.sampled_from([1, 127, 255, 30_000]), st.integers(0, 99))
def test_linear_layers(k: int, largest: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    x = random.integers(0, 256, (3, 2, k)).astype(np.uint8)
    weight = random.integers(-largest, largest + 1, (5, k))
    found = sum_linear(torch.from_numpy(x), ExactWeight.of(torch.from_numpy(weight)))
    assert np.array_equal(integer_linear(x, weight), found.to(torch.int64).numpy())


def test_sums_at_the_very_bound() -> None:
    """All terms of one sign add up to the bound itself: one below float32's, and one above it."""
    for k, dtype in ((518, torch.float32), (519, torch.float64)):
        weight = torch.full((1, k), 127)
        weight[0, -1] = 126  # odd sums, which float32 does not have above its bound
        exact = ExactWeight.of(weight)
        assert exact.values.dtype == dtype
        assert exact.bound == 255 * (127 * k - 1)
        x = torch.full((1, k), 255, dtype=torch.uint8)
        assert int(sum_linear(x, exact)) == exact.bound


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_what_the_process_set_changes_nothing(precision: str) -> None:
    random = np.random.default_rng(0)
    x = random.integers(0, 256, (64, 400)).astype(np.uint8)
    weight = random.integers(-128, 128, (32, 400))
    exact = ExactWeight.of(torch.from_numpy(weight))
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = sum_linear(torch.from_numpy(x), exact)
    finally:
        torch.set_float32_matmul_precision(before)
    assert found.dtype == exact.values.dtype == torch.float32
    assert np.array_equal(integer_linear(x, weight), found.to(torch.int64).numpy())


def test_a_known_bound_is_believed() -> None:
    """Such as that of 4-bit weights of so many terms."""
    weight = torch.randint(-15, 16, (4, 100))
    assert ExactWeight.of(weight, 255 * 15 * 100).values.dtype == torch.float32
    assert ExactWeight.of(weight, 1 << 24).values.dtype == torch.float64


# --- float arithmetic -----------------------------------------------------------------------------


def patterns(seed: int, size: int = 4000) -> np.ndarray:
    """float32 of random bits, of ordinary size, and the special values."""
    random = np.random.default_rng(seed)
    bits = random.integers(0, 1 << 32, size, dtype=np.uint32).view(np.float32)
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40, -1e-45, 0.5, -0.5, 2.5, 88.8, -104.5]
    ordinary = random.standard_normal(size) * 4
    return np.concatenate([bits, np.float32(ordinary), np.array(special, np.float32)])


PARAMETERS = {"clip": (-0.3, 1.7), "hard_sigmoid": (0.2, 0.5)}


@pytest.mark.parametrize("name", sorted(UNARY))
def test_functions_have_the_bits_of_their_definition(name: str) -> None:
    x = patterns(1)
    parameters = PARAMETERS.get(name, (0.7,) * UNARY[name].parameters)
    expected = evaluate(name, x, parameters)
    found = arithmetic.evaluate(UNARY[name].f32, torch.from_numpy(x), *parameters)
    assert same_bits(expected, found.numpy())


def test_activations_are_among_the_functions() -> None:
    assert set(ACTIVATIONS) <= set(UNARY)


def test_powers() -> None:
    x, y = patterns(2), np.random.default_rng(3).permutation(patterns(2))
    y[::3] = np.resize([0.5, 1, 2, 3, -1, 0, 7, -2.5], len(y[::3]))
    found = arithmetic.evaluate(power, torch.from_numpy(x), torch.from_numpy(y))
    assert same_bits(evaluate_pow(x, y), found.numpy())


@given(st.integers(0, 99), st.integers(0, 70))
def test_strided_sums(seed: int, k: int) -> None:
    random = np.random.default_rng(seed)
    x = (random.standard_normal((3, k)) * np.exp(4 * random.standard_normal((3, k)))).astype("f4")
    x[0] = -0.0
    assert same_bits(strided_sum(x), float_sums.strided_sum(torch.from_numpy(x)).numpy())


@given(st.integers(0, 99), st.integers(0, 40), st.sampled_from([1, 1 << 22]))
def test_strided_products(seed: int, k: int, held: int) -> None:
    random = np.random.default_rng(seed)
    a, b = (random.standard_normal(s).astype(np.float32) for s in ((3, k), (k, 5)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(float_sums, "LANE_ELEMENTS", held)
        found = float_sums.strided_product(torch.from_numpy(a), torch.from_numpy(b))
    assert same_bits(strided_matmul(a, b), found.numpy())
