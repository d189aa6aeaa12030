from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uqfc.calibration import GramAccumulator, adaptive_round, quantize_weights, reconstruction_error
from uqfc.calibration.gram import Dense, Patches
from uqfc.numerics import F32, F64, quantize


def problem(seed: int, outputs: int, k: int, groups: int = 1, rank: int = 0) -> tuple[F32, F64]:
    """Weights and the Gram matrices of correlated, rectified inputs (of low rank if given)."""
    rng = np.random.default_rng(seed)
    w = rng.standard_normal((outputs, k)).astype(np.float32)
    mix = rng.standard_normal((rank or k, k))
    x = np.maximum(rng.standard_normal((2 * k, groups, rank or k)) @ mix + 0.5, 0)
    accumulator = GramAccumulator(k, groups)
    accumulator.update(x.astype(np.float32))
    return w, accumulator.gram


@given(
    st.integers(0, 2**32),
    st.sampled_from([(1, 1, 1), (3, 7, 1), (8, 9, 8), (6, 25, 2), (5, 130, 1)]),
    st.sampled_from([(-8, 7), (0, 15), (-1, 1), (-128, 127)]),
    st.booleans(),
    st.booleans(),
)
@settings(max_examples=40)
def test_never_worse_than_rounding_to_nearest(
    seed: int, size: tuple[int, int, int], levels: tuple[int, int], symmetric: bool, low_rank: bool
) -> None:
    outputs, k, groups = size
    w, gram = problem(seed, outputs, k, groups, rank=1 if low_rank else 0)
    nearest, scale, zero_point = quantize_weights(w, *levels, symmetric=symmetric, method="mse")
    q = adaptive_round(w, gram, scale, zero_point, *levels)
    assert q.dtype == np.int32
    assert levels[0] <= q.min() <= q.max() <= levels[1]
    error = reconstruction_error(w, q, scale, zero_point, gram)
    assert (error <= reconstruction_error(w, nearest, scale, zero_point, gram)).all()
    assert np.array_equal(q, adaptive_round(w, gram, scale, zero_point, *levels))


@given(st.integers(0, 2**32))
@settings(max_examples=20)
def test_no_single_step_helps(seed: int) -> None:
    w, gram = problem(seed, 4, 12)
    _, scale, zero_point = quantize_weights(w, -8, 7)
    q = adaptive_round(w, gram, scale, zero_point, -8, 7)
    least = reconstruction_error(w, q, scale, zero_point, gram)
    for k, step in itertools.product(range(12), (-1, 1)):
        other = q.copy()
        other[:, k] = np.clip(other[:, k] + step, -8, 7)
        error = reconstruction_error(w, other, scale, zero_point, gram)
        assert (error >= least - 1e-7 * gram.max() * scale.max() ** 2).all()


def test_close_to_the_best_of_all() -> None:
    levels = np.array(list(itertools.product(range(-2, 2), repeat=5)), np.int32)
    lost = gained = 0.0
    for seed in range(20):
        w, gram = problem(seed, 1, 5)
        nearest, scale, zero_point = quantize_weights(w, -2, 1, axis=None)
        found = adaptive_round(w, gram, scale, zero_point, -2, 1)
        rows = np.concatenate([levels, found, nearest])
        errors = reconstruction_error(np.repeat(w, len(rows), 0), rows, scale, zero_point, gram)
        lost += errors[-2] - errors.min()
        gained += errors[-1] - errors.min()
    assert lost < 0.1 * gained


def test_correlated_inputs_gain_much() -> None:
    w, gram = problem(0, 32, 144, rank=100)
    nearest, scale, zero_point = quantize_weights(w, -8, 7)
    q = adaptive_round(w, gram, scale, zero_point, -8, 7)
    error = reconstruction_error(w, q, scale, zero_point, gram).sum()
    assert error < 0.5 * reconstruction_error(w, nearest, scale, zero_point, gram).sum()


def test_uncorrelated_inputs_are_rounded_to_nearest() -> None:
    w, _ = problem(0, 8, 20)
    nearest, scale, zero_point = quantize_weights(w, -8, 7)
    assert np.array_equal(adaptive_round(w, np.eye(20), scale, zero_point, -8, 7), nearest)


def test_inputs_that_are_always_zero() -> None:
    w, gram = problem(0, 4, 6)
    nearest, scale, zero_point = quantize_weights(w, -8, 7)
    assert np.array_equal(adaptive_round(w, 0 * gram, scale, zero_point, -8, 7), nearest)
    gram[:, 2], gram[:, :, 2] = 0, 0
    q = adaptive_round(w, gram, scale, zero_point, -8, 7)
    assert np.array_equal(q[:, 2], nearest[:, 2])


def test_groups_are_independent() -> None:
    w, gram = problem(3, 12, 9, groups=4)
    _, scale, zero_point = quantize_weights(w, -8, 7)
    whole = adaptive_round(w, gram, scale, zero_point, -8, 7)
    for g in range(4):
        rows = slice(3 * g, 3 * g + 3)
        part = adaptive_round(w[rows], gram[g], scale[rows], zero_point[rows], -8, 7)
        assert np.array_equal(part, whole[rows])


@given(st.integers(0, 2**32), st.integers(0, 9), st.booleans())
@settings(max_examples=20)
def test_few_patches_are_as_good_as_their_gram_matrix(seed: int, n: int, symmetric: bool) -> None:
    rng = np.random.default_rng(seed)
    w = rng.standard_normal((5, 72)).astype(np.float32)
    accumulator = GramAccumulator(72)
    for count in (n // 2, n - n // 2):
        accumulator.update(rng.standard_normal((count, 72)).astype(np.float32))
    form, gram = accumulator.quadratic, accumulator.gram
    assert isinstance(form, Patches) == (n > 0)
    assert form.diagonal == pytest.approx(np.einsum("gkk->gk", gram), abs=1e-12)
    _, scale, zero_point = quantize_weights(w, 0, 15, symmetric=symmetric)
    q = adaptive_round(w, form, scale, zero_point, 0, 15)
    assert np.array_equal(q, adaptive_round(w, gram, scale, zero_point, 0, 15))
    error = reconstruction_error(w, q, scale, zero_point, form)
    assert error == pytest.approx(reconstruction_error(w, q, scale, zero_point, gram), abs=1e-9)


def test_only_few_patches_are_kept() -> None:
    accumulator = GramAccumulator(72)
    accumulator.update(np.ones((10, 72), np.float32))
    assert isinstance(accumulator.quadratic, Dense)


def test_parameters_per_tensor_and_per_weight() -> None:
    w, gram = problem(0, 4, 6)
    scalar = adaptive_round(w, gram, np.asarray(0.3, np.float32), np.asarray(0, np.int32), -8, 7)
    per_weight = np.full(w.shape, 0.3, np.float32), np.zeros(w.shape, np.int32)
    assert np.array_equal(scalar, adaptive_round(w, gram, *per_weight, -8, 7))
    assert not np.array_equal(
        scalar, quantize(w, np.asarray(0.3, np.float32), np.asarray(0, np.int32), -8, 7)
    )
    with pytest.raises(ValueError, match="4 output channels in 3 groups"):
        adaptive_round(
            w, np.zeros((3, 6, 6)), np.asarray(1, np.float32), np.asarray(0, np.int32), -8, 7
        )


def test_large_layers_take_seconds_at_most() -> None:
    w, gram = problem(0, 128, 1152)
    _, scale, zero_point = quantize_weights(w, -8, 7)
    start = time.process_time()
    adaptive_round(w, gram, scale, zero_point, -8, 7)
    assert time.process_time() - start < 30  # about one second on a machine at rest


@pytest.mark.parametrize("groups", [1, 3])
def test_accumulators_are_exact_on_integers_however_split(groups: int) -> None:
    x = np.random.default_rng(0).integers(-50, 50, (64, groups, 5)).astype(np.float32)
    whole, parts, merged = (GramAccumulator(5, groups) for _ in range(3))
    whole.update(x if groups > 1 else x[:, 0])
    for part in np.split(x, [1, 10, 11, 40]):
        parts.update(part)
        one = GramAccumulator(5, groups)
        one.update(part)
        merged.merge(one)
    wide = x.astype(np.float64)
    for accumulator in (whole, parts, merged):
        assert accumulator.count == 64
        assert np.array_equal(accumulator.mean, wide.mean(axis=0))
        assert np.array_equal(accumulator.gram, np.einsum("ngi,ngj->gij", wide, wide) / 64)
    assert not GramAccumulator(5).gram.any()
