from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from uqfc.calibration import (
    GramAccumulator,
    bias_correction,
    equalize,
    integer_range,
    quantize_weights,
)
from uqfc.errors import CalibrationError
from uqfc.numerics import F32, F64

MODERATE = st.floats(-1e6, 1e6, width=32)
WEIGHTS = hnp.arrays(
    np.float32, hnp.array_shapes(min_dims=2, max_dims=4, max_side=5), elements=MODERATE
)
RANGES = st.sampled_from([(-8, 7), (-7, 7), (0, 15), (-128, 127), (-64, 63), (-1, 1)])


def rows_of(w: F32, axis: int | None) -> F32:
    """[channels, the rest]: what has one scale is a row."""
    return w.reshape(1, -1) if axis is None else np.moveaxis(w, axis, 0).reshape(w.shape[axis], -1)


def squared_errors(w: F32, w_hat: F32, axis: int | None) -> F64:
    difference = np.subtract(rows_of(w_hat, axis), rows_of(w, axis), dtype=np.float64)
    return np.square(difference).sum(axis=1)


@given(
    WEIGHTS,
    RANGES,
    st.sampled_from([None, 0, -1]),
    st.booleans(),
    st.sampled_from(["minmax", "mse"]),
)
def test_parameters_and_levels_are_in_range(
    w: F32, levels: tuple[int, int], axis: int | None, symmetric: bool, method: str
) -> None:
    quantized = quantize_weights(w, *levels, axis=axis, symmetric=symmetric, method=method)
    q, scale, zero_point = quantized
    assert q.shape == w.shape
    assert (q.dtype, scale.dtype, zero_point.dtype) == (np.int32, np.float32, np.int32)
    assert scale.shape == zero_point.shape == (() if axis is None else (w.shape[axis],))
    assert (scale > 0).all()
    assert levels[0] <= q.min() <= q.max() <= levels[1]
    assert ((levels[0] <= zero_point) & (zero_point <= levels[1])).all()
    w_hat = quantized.dequantize(axis)
    assert not w_hat[w == 0].any()


@given(WEIGHTS, RANGES, st.sampled_from([None, 0, -1]), st.booleans())
def test_minmax_is_off_by_half_a_step_at_most(
    w: F32, levels: tuple[int, int], axis: int | None, symmetric: bool
) -> None:
    quantized = quantize_weights(w, *levels, axis=axis, symmetric=symmetric)
    w_hat = rows_of(quantized.dequantize(axis), axis)
    error = np.abs(np.subtract(w_hat, rows_of(w, axis), dtype=np.float64)).max(axis=1)
    # The scale is itself rounded, by 2**-24 of up to 128 steps.
    assert (error <= quantized.scale.reshape(-1) * (0.5 + 2.0**-15)).all()


@given(WEIGHTS, RANGES, st.sampled_from([None, 0, -1]), st.booleans())
def test_mse_is_never_worse_than_minmax(
    w: F32, levels: tuple[int, int], axis: int | None, symmetric: bool
) -> None:
    errors: list[F64] = []
    for method in ("mse", "minmax"):
        quantized = quantize_weights(w, *levels, axis=axis, symmetric=symmetric, method=method)
        errors.append(squared_errors(w, quantized.dequantize(axis), axis))
    assert (errors[0] <= errors[1]).all()


@given(WEIGHTS, RANGES, st.booleans(), st.sampled_from(["minmax", "mse"]))
def test_a_channel_does_not_depend_on_the_others(
    w: F32, levels: tuple[int, int], symmetric: bool, method: str
) -> None:
    options: dict[str, Any] = {"symmetric": symmetric, "method": method}
    whole = quantize_weights(w, *levels, axis=0, **options)
    for i in range(len(w)):
        alone = quantize_weights(w[i], *levels, axis=None, **options)
        assert np.array_equal(alone.q, whole.q[i])
        assert alone.scale == whole.scale[i]


def test_mse_pays_at_four_bits() -> None:
    w = np.random.default_rng(0).standard_normal((16, 3, 3, 32)).astype(np.float32)
    for symmetric, gain in ((True, 0.85), (False, 0.85)):
        errors = [
            squared_errors(
                w, quantize_weights(w, -8, 7, symmetric=symmetric, method=m).dequantize(), 0
            ).sum()
            for m in ("mse", "minmax")
        ]
        assert errors[0] < gain * errors[1]


def test_known_weights() -> None:
    w = np.array([[-4, 3.5, 0.25], [0, 0, 0]], np.float32)
    q, scale, zero_point = quantize_weights(w, *integer_range(4))
    assert scale.tolist() == [0.5, 1.0]
    assert zero_point.tolist() == [0, 0]
    assert q.tolist() == [[-8, 7, 0], [0, 0, 0]]  # a tie goes to even


def test_bad_weights_are_refused() -> None:
    with pytest.raises(CalibrationError, match="NaN or infinite"):
        quantize_weights(np.array([[1, np.nan]], np.float32), -8, 7)
    with pytest.raises(CalibrationError, match="method 'kl'; accepted: minmax, mse"):
        quantize_weights(np.array([[1]], np.float32), -8, 7, method="kl")
    with pytest.raises(CalibrationError, match="weights of 1 bits; accepted: 2 to 16"):
        integer_range(1)


# --- equalization --------------------------------------------------------------------------------

C, O2 = 4, 3
READERS = {
    "conv": (O2, 3, 3, C),
    "pointwise": (O2, 1, 1, C),
    "depthwise": (C, 3, 3, 1),
    "linear": (O2, C),
}


def magnitudes(w: F32, reader: str | None = None) -> F32:
    moved = w if reader in (None, "depthwise") else np.moveaxis(w, -1, 0)
    return np.abs(moved).reshape(C, -1).max(axis=1)


def random_layers(reader: str, seed: int) -> tuple[F32, F32, F32]:
    rng = np.random.default_rng(seed)
    spread = np.exp2(rng.uniform(-6, 6, C)).astype(np.float32)
    w1 = rng.standard_normal((C, 3, 3, 2)).astype(np.float32) * spread[:, None, None, None]
    return (
        w1,
        rng.standard_normal(C).astype(np.float32),
        rng.standard_normal(READERS[reader]).astype(np.float32),
    )


@pytest.mark.parametrize("reader", READERS)
@given(st.integers(0, 2**32))
def test_exact_equalization_keeps_the_function_to_the_bit(reader: str, seed: int) -> None:
    w1, b1, w2 = random_layers(reader, seed)
    x = np.random.default_rng(seed).standard_normal(w1[0].size).astype(np.float32)
    equal = equalize(w1, b1, w2)

    def outputs(w1: F32, b1: F32 | None, w2: F32) -> F32:
        middle = np.maximum(w1.reshape(C, -1) @ x + b1, np.asarray(0, np.float32))
        return w2 * (middle[:, None, None, None] if reader == "depthwise" else middle)

    assert np.array_equal(outputs(w1, b1, w2), outputs(equal.w1, equal.b1, equal.w2))
    assert np.array_equal(np.frexp(equal.scales)[0], np.full(C, 0.5))
    ratio = magnitudes(equal.w1) / magnitudes(equal.w2, reader)
    assert ((ratio >= 0.4999) & (ratio <= 2.0001)).all()


@pytest.mark.parametrize("reader", READERS)
def test_equalization_makes_the_ranges_equal(reader: str) -> None:
    equal = equalize(*random_layers(reader, 0), exact=False)
    # Scale, square root, and a product on either side: five roundings of 2**-24 are 3e-7.
    np.testing.assert_allclose(magnitudes(equal.w1), magnitudes(equal.w2, reader), rtol=1e-5)


def test_dead_channels_are_left_alone() -> None:
    w1, b1, w2 = random_layers("conv", 0)
    w1[1] = 0
    w2[..., 2] = 0
    equal = equalize(w1, None, w2)
    assert equal.b1 is None
    assert equal.scales[1] == equal.scales[2] == 1
    assert np.array_equal(equal.w1[2], w1[2])
    with pytest.raises(ValueError, match="makes 4 channels"):
        equalize(w1, b1, w2[..., :3])


# --- bias correction -----------------------------------------------------------------------------


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_bias_correction_restores_the_expected_output(groups: int) -> None:
    # Integers: every sum is exact, in any order.
    rng = np.random.default_rng(groups)
    outputs, k = 8, 2 * 2 * 3
    w = rng.integers(-8, 8, (outputs, 2, 2, 3)).astype(np.float32)
    w_hat = w + rng.integers(-1, 2, w.shape).astype(np.float32)
    x = rng.integers(0, 16, (64, groups, k)).astype(np.float32)
    accumulator = GramAccumulator(k, groups)
    accumulator.update(x)
    rows = np.repeat(x, outputs // groups, axis=1)  # [n, O, K]: what each output channel reads
    expected = ((w - w_hat).reshape(outputs, k) * rows).sum(axis=2, dtype=np.float64).mean(axis=0)
    assert np.array_equal(bias_correction(w, w_hat, accumulator.mean), expected)


def test_channel_means_stand_for_all_positions() -> None:
    rng = np.random.default_rng(0)
    w = rng.integers(-8, 8, (6, 3, 3, 2)).astype(np.float32)
    mean = np.arange(4.0)  # two groups of two channels
    patches = np.tile(mean.reshape(2, 1, 2), (1, 9, 1)).reshape(2, 18)
    w_hat = np.zeros_like(w)
    assert np.array_equal(bias_correction(w, w_hat, mean), bias_correction(w, w_hat, patches))
    linear = w.reshape(6, 18)
    assert np.array_equal(
        bias_correction(linear, np.zeros_like(linear), np.ones(18)), linear.sum(axis=1)
    )
    with pytest.raises(ValueError, match="do not fit"):
        bias_correction(w, w_hat, np.ones((1, 5)))
