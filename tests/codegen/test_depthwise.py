"""Depthwise convolutions equal the definition: any kernel, stride, dilation and padding."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.codegen.harness import (
    EPILOGUES,
    HARD_SWISH,
    SEEDS,
    SOME_EXAMPLES,
    convolution_dims,
    convolution_sums,
    definition,
    host_isas,
    random_activations,
    random_problem,
    run_kernel,
)
from uqfc.codegen.builder import Builder, new_module
from uqfc.codegen.isa import AVX2, AVX_VNNI, VNNI512, Isa
from uqfc.codegen.kernels import ConvDims, Epilogue, Operands, Scalars, depthwise_spec
from uqfc.codegen.kernels.depthwise_pairs import fits_int16
from uqfc.codegen.vector import LANES
from uqfc.packing import I32, RANGES, Storage
from uqfc_runtime.cpu import cpu_features

PAIRED = (AVX2, AVX_VNNI)
EPILOGUES_OF_PAIRS = [
    dataclasses.replace(epilogue, residual=False)
    for epilogue in EPILOGUES
    if epilogue.output == "u8"
]
CHANNELS = st.sampled_from([1, 2, 3, 8, 15, 16, 17, 24, 32, 33, 40, 63, 64, 65, 100, 128, 136])


@st.composite
def any_dims(draw: st.DrawFn) -> ConvDims:
    channels = draw(CHANNELS)
    return convolution_dims(
        draw, in_channels=channels, out_channels=channels, groups=channels, largest_kernel=7
    )


def check(isa: Isa, storage: Storage, dims: ConvDims, epilogue: Epilogue, seed: int) -> None:
    rng = np.random.default_rng(seed)
    problem = random_problem(rng, (dims.out_channels, *dims.kernel), storage, epilogue)
    x = random_activations(rng, (dims.batch, dims.height, dims.width, dims.in_channels))
    out_shape = (dims.batch, dims.out_height, dims.out_width, dims.out_channels)
    residual = rng.integers(0, 256, out_shape, np.uint8)
    spec = depthwise_spec(isa, dims, storage, epilogue)
    in_place = epilogue.residual and epilogue.output == "u8" and seed % 2 == 0
    out = run_kernel(spec, dims, isa, x, problem, residual, epilogue, in_place=in_place)
    grouped = dataclasses.replace(problem, weights=problem.weights[..., None])
    sums = convolution_sums(x, grouped, dims)
    np.testing.assert_array_equal(out, definition(sums, problem, residual, epilogue))


@pytest.mark.parametrize("storage", ["s8", "u4", "u2", "s16"])
@pytest.mark.parametrize("isa", host_isas())
@settings(max_examples=SOME_EXAMPLES)
@given(any_dims(), st.sampled_from(EPILOGUES), SEEDS)
def test_depthwise_is_the_definition(
    isa: Isa, storage: Storage, dims: ConvDims, epilogue: Epilogue, seed: int
) -> None:
    check(isa, storage, dims, epilogue, seed)


@pytest.mark.parametrize("isa", host_isas())
@settings(max_examples=SOME_EXAMPLES)
@given(
    any_dims(),
    st.sampled_from(["s8", "u4", "u2", "s16"]),
    st.sampled_from([epilogue for epilogue in EPILOGUES if epilogue.known.small]),
    SEEDS,
)
def test_small_sums_are_the_definition(
    isa: Isa, dims: ConvDims, storage: Storage, epilogue: Epilogue, seed: int
) -> None:
    check(isa, storage, dims, epilogue, seed)


@st.composite
def dims_of_many_channels(draw: st.DrawFn) -> ConvDims:
    """Kernels whose input columns of 64 channels fit registers."""
    channels = draw(st.sampled_from([33, 40, 63, 64, 65, 96, 100, 128, 136]))
    return convolution_dims(
        draw, in_channels=channels, out_channels=channels, groups=channels, largest_kernel=3
    )


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("isa", host_isas("vnni512"))
@settings(max_examples=2 * SOME_EXAMPLES)
@given(
    dims_of_many_channels(),
    st.sampled_from(["s8", "u4", "u2", "s16"]),
    st.sampled_from(EPILOGUES),
    SEEDS,
)
def test_64_channels_at_a_time_are_the_definition(
    isa: Isa, residual: bool, dims: ConvDims, storage: Storage, epilogue: Epilogue, seed: int
) -> None:
    if epilogue.output != "i32":
        epilogue = dataclasses.replace(epilogue, residual=residual)
    assert depthwise_spec(isa, dims, storage, epilogue).blocks[0] == 4 * LANES
    check(isa, storage, dims, epilogue, seed)


@st.composite
def dims_in_pairs(draw: st.DrawFn) -> ConvDims:
    channels = draw(st.sampled_from([32, 33, 40, 47, 48, 64, 72, 81]))
    return convolution_dims(
        draw, in_channels=channels, out_channels=channels, groups=channels, largest_kernel=6
    )


@pytest.mark.parametrize("isa", [isa for isa in PAIRED if set(isa.required) <= cpu_features()])
@settings(max_examples=SOME_EXAMPLES)
@given(dims_in_pairs(), st.sampled_from(["u4", "u2"]), st.sampled_from(EPILOGUES_OF_PAIRS), SEEDS)
def test_taps_in_pairs_are_the_definition(
    isa: Isa, dims: ConvDims, storage: Storage, epilogue: Epilogue, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    problem = random_problem(rng, (dims.out_channels, *dims.kernel), storage, epilogue)
    weights = fitting(rng, problem.weights, problem.zero_points, RANGES[storage][1])
    problem = dataclasses.replace(problem, weights=weights)
    x = random_activations(rng, (dims.batch, dims.height, dims.width, dims.in_channels))
    spec = depthwise_spec(isa, dims, storage, epilogue, fits_int16=True)
    assert spec.pairs
    residual = np.zeros((dims.batch, dims.out_height, dims.out_width, dims.out_channels), np.uint8)
    out = run_kernel(spec, dims, isa, x, problem, residual, epilogue)
    grouped = dataclasses.replace(problem, weights=problem.weights[..., None])
    sums = convolution_sums(x, grouped, dims)
    np.testing.assert_array_equal(out, definition(sums, problem, residual, epilogue))


def fitting(
    rng: np.random.Generator, weights: I32, zero_points: I32, most: int, bound: int = 128
) -> I32:
    """The weights, nearer to their zero points where int16 would not hold their sums.

    Half of the time the first channel reaches the bound, if its taps can.
    """
    zeros = zero_points[:, None, None]
    centred = weights - zeros
    largest = np.abs(centred).sum(axis=(1, 2), keepdims=True)
    smaller = np.trunc(centred * (bound / np.maximum(largest, 1))).astype(np.int32)
    centred = np.where(largest > bound, smaller, centred)
    if rng.random() < 0.5:
        taps, room = centred[0].ravel(), most - int(zero_points[0])
        for i in range(taps.size):
            taps[i] = min(room, bound - int(taps[:i].sum()))
        centred[0] = taps.reshape(centred[0].shape)
    assert fits_int16(centred + zeros, zero_points)
    return centred + zeros


@given(st.integers(1, 40), st.integers(1, 30), SEEDS)
def test_weights_fit_if_no_input_makes_too_large_a_sum(n: int, taps: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    zero_points = rng.integers(0, 16, n).astype(np.int32)
    weights = rng.integers(0, 16, (n, taps, 1)).astype(np.int32)
    centred = (weights - zero_points[:, None, None]).reshape(n, taps).astype(np.int64)
    sums = [int((255 * side).sum(axis=1).max()) for side in (centred.clip(0), (-centred).clip(0))]
    assert fits_int16(weights, zero_points) == (max(sums) <= 32767)


@pytest.mark.parametrize("isa", host_isas())
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2), (7, 1)])
def test_large_images_are_the_definition(isa: Isa, kernel: int, stride: int) -> None:
    """Rows of several segments, images of several strips, an odd number of output rows."""
    height, width = 30 * stride + 5, 43
    out = [(size - 1) // stride + 1 for size in (height, width)]
    dims = ConvDims(
        *(2, height, width, 104, out[0], out[1], 104),
        kernel=(kernel, kernel),
        stride=(stride, stride),
        dilation=(1, 1),
        pad_begin=(kernel // 2, kernel // 2),
        groups=104,
    )
    epilogue = Epilogue("u8", HARD_SWISH)
    rng = np.random.default_rng(kernel)
    problem = random_problem(rng, (104, kernel, kernel), "u4", epilogue)
    x = random_activations(rng, (2, height, width, 104))
    residual = np.zeros((2, *out, 104), np.uint8)
    spec = depthwise_spec(isa, dims, "u4", epilogue)
    result = run_kernel(spec, dims, isa, x, problem, residual, epilogue)
    grouped = dataclasses.replace(problem, weights=problem.weights[..., None])
    sums = convolution_sums(x, grouped, dims)
    np.testing.assert_array_equal(result, definition(sums, problem, residual, epilogue))


def test_kernel_names() -> None:
    dims = ConvDims(1, 14, 14, 24, 7, 7, 24, (5, 3), (2, 2), (1, 1), (2, 1), groups=24)
    name = "u8_i4c_dwconv_5x3s2p7x16_hard_swish_u8__vnni512"
    assert depthwise_spec(VNNI512, dims, "u4", Epilogue("u8", HARD_SWISH)).name == name
    dilated = dataclasses.replace(dims, dilation=(1, 3))
    name = "u8_i8c_dwconv_5x3s2d1x3x16_u8__avx2"
    assert depthwise_spec(AVX2, dilated, "s8", Epilogue("u8"), fits_int16=True).name == name
    wide = dataclasses.replace(dims, in_channels=32, out_channels=32, groups=32)
    name = "u8_i4c_dwconv_5x3s2x32_u8__avx2"
    assert depthwise_spec(AVX2, wide, "u4", Epilogue("u8"), fits_int16=True).name == name
    name = "u8_i4c_dwconv_5x3s2oddx16_u8__avx2"
    assert depthwise_spec(AVX2, wide, "u4", Epilogue("u8")).name == name


def test_names_with_64_channels_at_a_time() -> None:
    def name(channels: int, stride: int, width: int, epilogue: Epilogue) -> str:
        sizes = (1, 9, stride * width, channels, 9, width, channels)
        dims = ConvDims(*sizes, (3, 3), (1, stride), (1, 1), (1, 1), groups=channels)
        return depthwise_spec(VNNI512, dims, "s8", epilogue).name

    u8, start = Epilogue("u8"), "u8_i8c_dwconv_3x3s1"
    assert name(64, 1, 8, u8) == f"{start}oddx64_u8__vnni512"
    assert name(80, 1, 8, u8) == f"{start}oddx2x64x16_u8__vnni512"
    assert name(80, 1, 7, u8) == f"{start}oddx64x16_u8__vnni512"
    assert name(64, 2, 8, u8) == f"{start}x2oddx2x64_u8__vnni512"
    assert name(32, 2, 8, u8) == f"{start}x2oddx16_u8__vnni512"
    assert name(64, 2, 8, Epilogue("f32")) == f"{start}x2oddx64_f32__vnni512"


def test_what_it_is_not_for_is_refused() -> None:
    dims = ConvDims(1, 14, 14, 24, 7, 7, 24, (3, 3), (2, 2), (1, 1), (1, 1), groups=24)
    with pytest.raises(ValueError, match="groups == in_channels == out_channels"):
        depthwise_spec(AVX2, dataclasses.replace(dims, groups=1), "s8", Epilogue("u8"))
    with pytest.raises(ValueError, match="at most 81 taps"):
        depthwise_spec(AVX2, dataclasses.replace(dims, kernel=(31, 31)), "s8", Epilogue("u8"))
    b = Builder.function(new_module(AVX2, "test"), AVX2, "run", p="ptr")
    operands = Operands(*[b.pointer("p")] * 5)
    spec = depthwise_spec(AVX2, dims, "s8", Epilogue("u8"))
    with pytest.raises(ValueError, match="needs scratch memory"):
        spec.call(b, operands, dims, Scalars())
    with pytest.raises(ValueError, match="is not the kernel of"):
        spec.call(b, operands, dataclasses.replace(dims, kernel=(5, 5)), Scalars())
