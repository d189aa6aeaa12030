"""Runs that int16 holds: proved by the weights, tight, and exact in kernels that use them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.codegen.harness import (
    SEEDS,
    SOME_EXAMPLES,
    convolution_sums,
    definition,
    random_problem,
    run_kernel,
)
from uqfc.codegen.isa import AVX2
from uqfc.codegen.isa.dot import SUMS_OF_PAIRS
from uqfc.codegen.kernels import ConvDims, Epilogue, GemmDims, conv_spec, gemm_spec
from uqfc.codegen.kernels.int16_sums import longest_run, sums_in_int16
from uqfc.codegen.kernels.product import Product
from uqfc.packing import PanelLayout
from uqfc_runtime.cpu import cpu_features

INT16 = 32767
NEEDS_AVX2 = pytest.mark.skipif(not set(AVX2.required) <= cpu_features(), reason="no avx2 here")


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


@NEEDS_AVX2
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


@st.composite
def conv_dims(draw: st.DrawFn) -> ConvDims:
    """3x3, in one group or several, segments of 5 steps at least."""
    groups = draw(st.integers(1, 3))
    channels = draw(st.integers(6, 40) if groups == 1 else st.integers(17, 60))
    padding, height, width = (draw(st.integers(*ends)) for ends in ((0, 1), (3, 5), (3, 9)))
    return ConvDims(
        batch=draw(st.integers(1, 2)),
        height=height,
        width=width,
        in_channels=groups * channels,
        out_height=height + 2 * padding - 2,
        out_width=width + 2 * padding - 2,
        out_channels=groups * draw(st.sampled_from([7, 16, 33])),
        kernel=(3, 3),
        pad_begin=(padding, padding),
        groups=groups,
    )


@NEEDS_AVX2
@settings(max_examples=SOME_EXAMPLES)
@given(conv_dims(), st.integers(1, 7), SEEDS)
def test_convolutions_in_runs_are_the_definition(dims: ConvDims, most: int, seed: int) -> None:
    """Weights of magnitude ``most``, also of one sign; one window has the worst activations."""
    rng = np.random.default_rng(seed)
    epilogue = Epilogue("i32" if seed % 2 else "u8")
    shape = (dims.out_channels, *dims.kernel, dims.in_channels // dims.groups)
    sign = rng.choice([-1, 1])
    one_sign = rng.random() < 0.5
    centred = np.full(shape, sign * most) if one_sign else rng.integers(-most, most + 1, shape)
    zero_points = rng.integers(most, 16 - most, dims.out_channels).astype(np.int32)
    weights = (centred + zero_points[:, None, None, None]).astype(np.int32)
    spec = conv_spec(AVX2, dims, "u4", epilogue)
    assert isinstance(spec.product, Product)
    assert spec.product.sums_in_int16
    run = longest_run(spec.layout(dims), weights.reshape(dims.out_channels, -1), zero_points)
    assert run > SUMS_OF_PAIRS
    problem = random_problem(rng, shape, "u4", epilogue)
    scalars = replace(problem.scalars, int16_steps=run)
    problem = replace(problem, weights=weights, zero_points=zero_points, scalars=scalars)
    x = rng.integers(0, 256, (dims.batch, dims.height, dims.width, dims.in_channels), np.uint8)
    top, left = rng.integers(dims.height - 2), rng.integers(dims.width - 2)
    channel = rng.integers(dims.out_channels)
    first = channel * dims.groups // dims.out_channels * shape[-1]
    worst = np.where(sign * centred[channel] > 0, 255, 0)
    x[0, top : top + 3, left : left + 3, first : first + shape[-1]] = worst
    residual = np.zeros((dims.batch, dims.out_height, dims.out_width, dims.out_channels), np.uint8)
    flat = replace(problem, weights=weights.reshape(dims.out_channels, -1))
    out = run_kernel(spec, dims, AVX2, x, flat, residual, epilogue)
    expected = definition(convolution_sums(x, problem, dims), problem, residual, epilogue)
    np.testing.assert_array_equal(out, expected)
