"""Convolutions equal the definition: any kernel, stride, dilation, padding and groups."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.codegen.harness import (
    EPILOGUES,
    GUARD,
    SEEDS,
    SOME_EXAMPLES,
    convolution_dims,
    convolution_sums,
    definition,
    end_or_any,
    host_isas,
    random_activations,
    random_problem,
    run_kernel,
)
from uqfc import numerics
from uqfc.codegen import jit
from uqfc.codegen.builder import Builder, new_module
from uqfc.codegen.isa import AVX2, PORTABLE, VNNI512, Isa
from uqfc.codegen.kernels import (
    ConvDims,
    ConvSpec,
    Epilogue,
    GemmSpec,
    Operands,
    Scalars,
    conv_spec,
    gemm_spec,
)
from uqfc.codegen.kernels.choice import conv_alternatives
from uqfc.codegen.kernels.conv import conv_tile_heights, in_pixels
from uqfc.codegen.kernels.quantized_rows import QuantizedRows
from uqfc.codegen.kernels.reading import Reading
from uqfc.packing import Storage

CHANNELS = st.sampled_from([1, 2, 3, 4, 5, 8, 16, 17, 31, 33])


@st.composite
def any_dims(draw: st.DrawFn, channels: int = 0) -> ConvDims:
    """``channels`` of the input, in one group, or any."""
    groups = 1 if channels else draw(st.sampled_from([1, 1, 2, 3]))
    return convolution_dims(
        draw,
        in_channels=channels or groups * draw(CHANNELS if groups == 1 else st.integers(1, 9)),
        out_channels=groups * draw(CHANNELS if groups == 1 else st.integers(1, 20)),
        groups=groups,
    )


def check(isa: Isa, storage: Storage, dims: ConvDims, epilogue: Epilogue, seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = (dims.out_channels, *dims.kernel, dims.in_channels // dims.groups)
    problem = random_problem(rng, shape, storage, epilogue)
    x = random_activations(rng, (dims.batch, dims.height, dims.width, dims.in_channels))
    out_shape = (dims.batch, dims.out_height, dims.out_width, dims.out_channels)
    residual = rng.integers(0, 256, out_shape, np.uint8)
    is_product = dims.is_product
    spec: ConvSpec | GemmSpec
    if is_product:
        spec = gemm_spec(isa, dims.product, storage, epilogue)
    else:
        heights = conv_tile_heights(isa, dims)
        spec = conv_spec(isa, dims, storage, epilogue, heights[seed % len(heights)])
    in_place = epilogue.residual and epilogue.output == "u8" and seed % 2 == 0
    sizes = dims.product if is_product else dims
    problem_2d = replace(problem, weights=problem.weights.reshape(dims.out_channels, -1))
    out = run_kernel(spec, sizes, isa, x, problem_2d, residual, epilogue, in_place=in_place)
    sums = convolution_sums(x, problem, dims)
    np.testing.assert_array_equal(out, definition(sums, problem, residual, epilogue))


@pytest.mark.parametrize("storage", ["s8", "u4", "u2", "s16"])
@pytest.mark.parametrize("isa", host_isas())
@settings(max_examples=SOME_EXAMPLES)
@given(any_dims(), st.sampled_from(EPILOGUES), SEEDS)
def test_conv_is_the_definition(
    isa: Isa, storage: Storage, dims: ConvDims, epilogue: Epilogue, seed: int
) -> None:
    check(isa, storage, dims, epilogue, seed)


def images(rng: np.random.Generator, shape: tuple[int, ...], scale: float) -> NDArray[np.float32]:
    """Ordinary values, ties and their neighbours, and values that few formulas survive."""
    x = rng.normal(0, 100 * scale, shape).astype(np.float32)
    ties = (rng.integers(-300, 300, shape) / 2 * scale).astype(np.float32)
    near = np.nextafter(ties, rng.choice([-np.inf, np.inf], shape).astype(np.float32))
    strange = rng.choice([np.nan, -np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-42], shape)
    kind = rng.random(shape) * rng.choice([1.0, 8.0])
    return np.select([kind < 0.1, kind < 0.2, kind < 0.22], [ties, near, strange], x).astype("f4")


@pytest.mark.parametrize("isa", host_isas())
@settings(max_examples=SOME_EXAMPLES)
@given(st.data(), st.integers(2, 4), st.sampled_from(EPILOGUES), SEEDS)
def test_conv_of_an_image_that_it_quantizes(
    isa: Isa, data: st.DataObject, channels: int, epilogue: Epilogue, seed: int
) -> None:
    dims = data.draw(any_dims(channels=channels))
    assume(not dims.is_product)
    rng = np.random.default_rng(seed)
    shape = (dims.out_channels, *dims.kernel, channels)
    problem = random_problem(rng, shape, "s8", epilogue)
    scale = float(np.float32(rng.choice([0.02, 1 / 64, 1.7, 1e-35])))
    zero_point = problem.scalars.pad_value
    qmin, qmax = sorted((end_or_any(rng), end_or_any(rng)))
    image = images(rng, (dims.batch, channels, dims.height, dims.width), scale)
    planar = numerics.quantize(image, np.array(scale, np.float32), np.array(zero_point), qmin, qmax)
    source = QuantizedRows(channels, scale, zero_point, qmin, qmax)
    spec = conv_spec(isa, dims, "s8", epilogue, source=source)
    out_shape = (dims.batch, dims.out_height, dims.out_width, dims.out_channels)
    residual = rng.integers(0, 256, out_shape, np.uint8)
    flat = replace(problem, weights=problem.weights.reshape(dims.out_channels, -1))
    out = run_kernel(spec, dims, isa, image, flat, residual, epilogue, slack=0)
    sums = convolution_sums(planar.transpose(0, 2, 3, 1).astype(np.uint8), problem, dims)
    np.testing.assert_array_equal(out, definition(sums, problem, residual, epilogue))


@st.composite
def window_dims(draw: st.DrawFn) -> ConvDims:
    """Of convolutions whose weights fit registers."""
    tight = draw(st.booleans())
    kernel = (3, 3) if tight else draw(st.sampled_from([(3, 3), (1, 9), (2, 2), (3, 1)]))
    stride = (draw(st.integers(1, 2)), 2 if tight else draw(st.integers(1, 3)))
    out = (draw(st.integers(1, 9)), draw(st.sampled_from([8, 9, 15, 16, 17, 23, 33])))
    before, after = (draw(st.tuples(*[st.integers(0, 2)] * 2)) for _ in range(2))
    size = [(out[i] - 1) * stride[i] + kernel[i] - before[i] - after[i] for i in (0, 1)]
    return ConvDims(
        batch=draw(st.integers(1, 2)),
        height=max(1, size[0]),
        width=max(1, size[1]),
        in_channels=3 if tight else draw(st.integers(3, 4)),
        out_height=out[0],
        out_width=out[1],
        out_channels=draw(st.sampled_from([16, 32] if tight else [16, 16, 5, 24, 32])),
        kernel=kernel,
        stride=stride,
        pad_begin=before,
    )


@pytest.mark.parametrize("isa", host_isas("vnni512"))
@settings(max_examples=SOME_EXAMPLES)
@given(
    window_dims(),
    st.sampled_from(["s8", "u4", "u2"]),
    st.sampled_from([e for e in EPILOGUES if e.output == "u8" and not e.residual]),
    st.booleans(),
    SEEDS,
)
def test_conv_with_its_weights_in_registers(
    isa: Isa, dims: ConvDims, storage: Storage, epilogue: Epilogue, quantizes: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    channels = dims.in_channels
    problem = random_problem(rng, (dims.out_channels, *dims.kernel, channels), storage, epilogue)
    zero_point, scale = problem.scalars.pad_value, float(np.float32(rng.choice([0.02, 1e-35])))
    source = QuantizedRows(channels, scale, zero_point, 0, 255) if quantizes else None
    spec = in_pixels(conv_spec(isa, dims, storage, epilogue, source=source), dims)
    assert spec is not None
    planes = (dims.batch, channels, dims.height, dims.width)
    image = images(rng, planes, scale)
    quantized = numerics.quantize(image, np.array(scale, "f4"), np.array(zero_point), 0, 255)
    x = np.ascontiguousarray(quantized.transpose(0, 2, 3, 1).astype(np.uint8))
    shape = (dims.batch, dims.out_height, dims.out_width, dims.out_channels)
    unused = np.zeros(shape, np.uint8)
    flat = replace(problem, weights=problem.weights.reshape(dims.out_channels, -1))
    read, slack = (image, 0) if quantizes else (x, GUARD)
    out = run_kernel(spec, dims, isa, read, flat, unused, epilogue, slack=slack)
    sums = convolution_sums(x, problem, dims)
    np.testing.assert_array_equal(out, definition(sums, problem, unused, epilogue))


@pytest.mark.parametrize("isa", host_isas("vnni512"))
@pytest.mark.parametrize("first", [0, 1])
def test_kernels_of_one_module_pad_as_they_need(isa: Isa, first: int) -> None:
    """Pixels of three bytes take four in the strip of one of them only, whichever is made first."""
    rng, epilogue = np.random.default_rng(9), Epilogue("u8")
    dims = ConvDims(1, 9, 11, 3, 9, 11, 16, (3, 3), (1, 1), (1, 1), (1, 1))
    plain = conv_spec(isa, dims, "s8", epilogue)
    joined = in_pixels(plain, dims)
    assert joined is not None
    problem = random_problem(rng, (16, 3, 3, 3), "s8", epilogue)
    x = random_activations(rng, (1, 9, 11, 3))
    module = new_module(isa, "test")
    names = ["x", "addend", "multiplier", "scratch", "plain", "one", "joined", "other"]
    b = Builder.function(module, isa, "run", internal=False, **dict.fromkeys(names, "ptr"))
    p = {name: b.pointer(name) for name in names}
    calls = [(plain, "plain", "one"), (joined, "joined", "other")]
    for spec, weights, out in (calls, calls[::-1])[first]:
        constants = (p[weights], p["addend"], p["multiplier"])
        operands = Operands(p["x"], *constants, p[out], scratch=p["scratch"])
        spec.call(b, operands, dims, problem.scalars)
    b.ret()
    run = jit.load(jit.compile_object(module, isa), ["run"]).function("run", *["ptr"] * len(names))
    arrays = [np.append(x.reshape(-1), np.zeros(GUARD, np.uint8))]
    arrays += [plain.pad(dims, problem.addend), plain.pad(dims, problem.multiplier)]
    scratch = max(spec.scratch_bytes(dims) for spec, *_ in calls) + GUARD
    arrays += [np.zeros(scratch, np.uint8)]
    outs = [np.zeros((1, 9, 11, 16), np.uint8) for _ in calls]
    for (spec, *_), out in zip(calls, outs, strict=True):
        arrays += [spec.pack(dims, problem.weights.reshape(16, -1)), out]
    run(*[array.ctypes.data for array in arrays])
    expected = definition(convolution_sums(x, problem, dims), problem, outs[0], epilogue)
    for out in outs:
        np.testing.assert_array_equal(out, expected)


STEM = ConvDims(1, 224, 224, 3, 112, 112, 16, (3, 3), (2, 2), (1, 1), (1, 1))
"""Of a network for images: its weights stay in registers, its pixels have three bytes."""


def stem_in_pixels(
    dims: ConvDims,
    isa: Isa = VNNI512,
    storage: Storage = "u4",
    epilogue: Epilogue = Epilogue("u8"),  # noqa: B008 # immutable
) -> ConvSpec | None:
    return in_pixels(conv_spec(isa, dims, storage, epilogue), dims)


def test_a_stem_keeps_its_weights_in_registers() -> None:
    spec = stem_in_pixels(STEM)
    assert spec is not None
    assert spec.name == "u8_i4c_conv_3x3x3s2_joined_8x16c4_u8__vnni512"
    assert spec in conv_alternatives(VNNI512, STEM, "u4", Epilogue("u8"))
    assert spec.window is not None
    assert spec.window.tight


@pytest.mark.parametrize(
    "dims",
    [replace(STEM, out_channels=24), replace(STEM, stride=(2, 1), out_width=224)],
    ids=["24 channels", "stride of 1"],
)
def test_pixels_that_take_four_bytes(dims: ConvDims) -> None:
    spec = stem_in_pixels(dims)
    assert spec is not None
    assert spec.window is not None
    assert not spec.window.tight


@pytest.mark.parametrize(
    "dims",
    [
        replace(STEM, kernel=(5, 5), pad_begin=(2, 2)),
        replace(STEM, in_channels=8),
        replace(STEM, width=12, out_width=6),
        replace(STEM, dilation=(2, 2), pad_begin=(2, 2)),
    ],
    ids=["5x5", "8 channels", "narrow", "dilated"],
)
def test_shapes_whose_weights_do_not_stay_in_registers(dims: ConvDims) -> None:
    assert stem_in_pixels(dims) is None


@pytest.mark.parametrize(
    ("isa", "storage", "epilogue"),
    [
        (AVX2, "u4", Epilogue("u8")),
        (VNNI512, "s16", Epilogue("u8")),
        (VNNI512, "u4", Epilogue("f32")),
        (VNNI512, "u4", Epilogue("u8", residual=True)),
    ],
    ids=["avx2", "s16", "f32", "residual"],
)
def test_stems_whose_weights_do_not_stay_in_registers(
    isa: Isa, storage: Storage, epilogue: Epilogue
) -> None:
    assert stem_in_pixels(STEM, isa, storage, epilogue) is None


@pytest.mark.parametrize("isa", host_isas())
@pytest.mark.parametrize(
    "dims",
    [
        ConvDims(1, 33, 35, 3, 17, 18, 16, (3, 3), (2, 2), (1, 1), (1, 1)),
        ConvDims(2, 30, 30, 4, 30, 30, 24, (3, 3), (1, 1), (1, 1), (1, 1)),
        ConvDims(1, 9, 9, 130, 9, 9, 40, (3, 3), (1, 1), (1, 1), (1, 1)),
        ConvDims(1, 9, 9, 24, 5, 5, 40, (1, 1), (2, 2)),
        ConvDims(1, 9, 9, 24, 9, 9, 40, (1, 1)),
        ConvDims(1, 2, 2, 3, 6, 6, 5, (3, 3), (1, 1), (1, 1), (3, 3)),
    ],
    ids=["stem", "strips", "long runs", "strided pointwise", "pointwise", "mostly padding"],
)
def test_shapes_that_take_another_path(isa: Isa, dims: ConvDims) -> None:
    check(isa, "u4", dims, Epilogue("u8"), 3)


@pytest.mark.parametrize("isa", host_isas("vnni512"))
@pytest.mark.parametrize("storage", ["s8", "u4"])
@pytest.mark.parametrize("size", [7, 14, 15])
def test_panels_of_large_weights_are_prefetched(isa: Isa, storage: Storage, size: int) -> None:
    """The lines of an image are one chunk, or several."""
    image = ConvDims(1, size, size, 64, size, size, 192, (3, 3), (1, 1), (1, 1), (1, 1))
    spec = conv_spec(isa, image, storage, Epilogue("u8"), 7)
    assert spec.reading == Reading(prefetch=True)
    assert "_7x32c4o8p_" in spec.name
    check(isa, storage, image, Epilogue("u8"), conv_tile_heights(isa, image).index(7))


def test_kernel_names() -> None:
    stem = ConvDims(1, 224, 224, 3, 112, 112, 16, (3, 3), (2, 2), (1, 1), (1, 1))
    name = "u8_i4c_conv_7x32c4o3_u8__vnni512"
    assert conv_spec(VNNI512, stem, "u4", Epilogue("u8")).name == name
    wide = ConvDims(1, 14, 14, 64, 14, 14, 64, (3, 3), (1, 1), (1, 1), (1, 1))
    name = "u8_i8c_conv_6x16c4_add_f32__avx2"
    assert conv_spec(AVX2, wide, "s8", Epilogue("f32", residual=True)).name == name
    pointwise = ConvDims(1, 14, 14, 64, 14, 14, 64, (1, 1))
    with pytest.raises(ValueError, match="is a product"):
        conv_spec(AVX2, pointwise, "s8", Epilogue("u8"))
    patches = ConvDims(1, 32, 32, 3, 2, 2, 64, (16, 16), (16, 16))
    name = "u8_i8c_conv_valid_2x16c4_u8__portable"
    assert conv_spec(PORTABLE, patches, "s8", Epilogue("u8")).name == name


def test_a_spec_is_of_its_dims() -> None:
    b = Builder.function(new_module(AVX2, "test"), AVX2, "run", p="ptr")
    operands = Operands(*[b.pointer("p")] * 7)
    dims = ConvDims(1, 5, 5, 3, 5, 5, 8, (3, 3), (1, 1), (1, 1), (1, 1))
    spec = conv_spec(AVX2, dims, "s8", Epilogue("u8"))
    other = ConvDims(1, 5, 5, 3, 3, 3, 8, (3, 3))  # without padding
    with pytest.raises(ValueError, match="is not the kernel of"):
        spec.call(b, operands, other, Scalars())
    with pytest.raises(ValueError, match="needs scratch memory"):
        spec.call(b, Operands(*[b.pointer("p")] * 5), dims, Scalars())
