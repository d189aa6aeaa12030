"""Runs that int16 holds: proved by the weights, tight, and exact in kernels that use them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.codegen.harness import SEEDS, SOME_EXAMPLES, definition, random_problem, run_kernel
from uqfc.codegen.isa import AVX2
from uqfc.codegen.isa.dot import SUMS_OF_PAIRS
from uqfc.codegen.kernels import Epilogue, GemmDims, gemm_spec
from uqfc.codegen.kernels.int16_sums import longest_run, sums_in_int16
from uqfc.packing import PanelLayout
from uqfc_runtime.cpu import cpu_features

INT16 = 32767


def drawn_weights(rng: np.random.Generator, n: int, k: int) -> tuple[NDArray[np.int32], ...]:
    """Nibbles of any spread, of one sign, or large, and their zero points."""
    zero_points = rng.integers(0, 16, n) if rng.random() < 0.5 else np.full(n, 8)
    spread = rng.choice([0.5, 2.5, 8.0])
    weights = np.rint(zero_points[:, None] + spread * rng.standard_normal((n, k)))
    if rng.random() < 0.2:
        weights[:] = 15 * rng.integers(0, 2)
    return np.clip(weights, 0, 15).astype(np.int32), zero_points.astype(np.int32)


def worst_sums(centred: NDArray[np.int32], segments: int, run: int) -> int:
    """The largest magnitude of a sum of pairs over a run, whatever the activations."""
    n, k = centred.shape
    steps = -(-(k // segments) // 4)
    padded = np.zeros((n, segments, steps * 4), np.int64)
    padded[..., : k // segments] = centred.reshape(n, segments, -1)
    whole = run >= segments * steps
    lines = padded.reshape(n, 1 if whole else segments, -1, 2, 2)
    worst = 0
    for start in range(0, lines.shape[2], run):
        part = lines[:, :, start : start + run]
        for sign in (part.clip(min=0), (-part).clip(min=0)):
            worst = max(worst, int(255 * sign.sum(axis=(2, 4)).max()))
    return worst


@given(st.integers(1, 20), st.sampled_from([1, 3, 9]), st.integers(1, 300), SEEDS)
def test_a_run_fits_and_all_of_k_is_taken_if_it_does(
    n: int, segments: int, segment: int, seed: int
) -> None:
    k = segments * segment
    weights, zero_points = drawn_weights(np.random.default_rng(seed), n, k)
    run = longest_run(PanelLayout(n, k, "u4", 16, segments=segments), weights, zero_points)
    centred = weights - zero_points[:, None]
    total = segments * -(-segment // 4)
    assert run <= total or run == SUMS_OF_PAIRS
    if run > SUMS_OF_PAIRS:
        assert worst_sums(centred, segments, run) <= INT16
    if worst_sums(centred, segments, total) <= INT16:
        assert run >= total


@pytest.mark.skipif(not set(AVX2.required) <= cpu_features(), reason="no avx2 here")
@settings(max_examples=SOME_EXAMPLES)
@given(st.integers(2, 20), st.integers(1, 400), st.sampled_from([7, 16, 33]), SEEDS)
def test_products_in_runs_are_the_definition(rows: int, k: int, n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    epilogue = Epilogue("i32" if seed % 2 else "u8")
    weights, zero_points = drawn_weights(rng, n, k)
    dims = GemmDims.dense(rows, k, n)
    spec = gemm_spec(AVX2, dims, "u4", epilogue)
    assert sums_in_int16(AVX2, spec.product.tile(AVX2.panel).source)
    problem = random_problem(rng, (n, k), "u4", epilogue)
    run = longest_run(spec.layout(dims), weights, zero_points)
    scalars = replace(problem.scalars, int16_steps=run)
    problem = replace(problem, weights=weights, zero_points=zero_points, scalars=scalars)
    centred = (weights - zero_points[:, None]).astype(np.int64)
    sign = rng.choice([-1, 1])
    x = rng.integers(0, 256, (rows, k), np.uint8)
    x[0] = np.where(sign * centred[rng.integers(n)] > 0, 255, 0)
    residual = np.zeros((rows, n), np.uint8)
    out = run_kernel(spec, dims, AVX2, x, problem, residual, epilogue)
    expected = definition(x.astype(np.int64) @ centred.T, problem, residual, epilogue)
    np.testing.assert_array_equal(out, expected)
