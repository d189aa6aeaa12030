"""Matrix products and convolutions on matrix tiles equal the definition; what they execute."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.codegen import amx
from tests.codegen.harness import (
    EPILOGUES,
    SEEDS,
    SOME_EXAMPLES,
    convolution_dims,
    convolution_sums,
    definition,
    random_activations,
    random_problem,
    run_kernel,
)
from tests.codegen.products import check_dense, check_strided
from uqfc.codegen import jit
from uqfc.codegen.builder import Builder, new_module
from uqfc.codegen.cost_model import conv_cycles, gemm_cycles
from uqfc.codegen.isa import AMX, VNNI512
from uqfc.codegen.kernels import ConvDims, Epilogue, GemmDims, Operands, Scalars
from uqfc.codegen.kernels.amx_conv import AmxConvSpec
from uqfc.codegen.kernels.amx_gathered import AmxGatheredSpec
from uqfc.codegen.kernels.amx_gemm import AmxGemmSpec
from uqfc.codegen.kernels.amx_strip import STRIP_BYTES, AmxStrip
from uqfc.codegen.kernels.choice import conv_alternatives, gemm_alternatives
from uqfc.packing import Storage, round_up

needs_amx = pytest.mark.skipif(amx.why_not() is not None, reason=str(amx.why_not()))
STORAGES: list[Storage] = ["s8", "u4", "u2"]
ROWS = st.one_of(st.integers(16, 70), st.sampled_from([95, 96, 97, 128, 129]))
CHANNELS = st.sampled_from([1, 2, 15, 16, 17, 31, 32, 33, 47, 48, 49, 64, 65])
REDUCTIONS = st.sampled_from([1, 3, 4, 5, 31, 63, 64, 65, 100, 127, 128, 129, 200])
PARTS = st.sampled_from([1023, 1024, 1025, 2048, 2111, 4097])
"""Reductions that are done in one part, and in several."""


@st.composite
def convolutions(draw: st.DrawFn) -> ConvDims:
    channels = {"in_channels": draw(CHANNELS), "out_channels": draw(CHANNELS)}
    dims = convolution_dims(draw, **channels, groups=1)
    assume(not dims.is_product)
    return dims


def check_gemm(
    storage: Storage,
    rows: int,
    k: int,
    n: int,
    epilogue: Epilogue,
    seed: int,
    shares: Shares | None = None,
    parts: int = 1,
) -> amx.Counts | None:
    """What was executed."""
    spec, dims = shares or AmxGemmSpec(AMX, storage, epilogue), GemmDims.dense(rows, k, n)
    amx.executed()
    check_dense(spec, dims, AMX, storage, epilogue, seed, parts=parts)
    return amx.executed()


def check_conv(
    storage: Storage,
    dims: ConvDims,
    epilogue: Epilogue,
    seed: int,
    other: Shares | AmxGatheredSpec | None = None,
    parts: int = 1,
) -> amx.Counts | None:
    """What was executed."""
    rng = np.random.default_rng(seed)
    shape = (dims.out_channels, *dims.kernel, dims.in_channels)
    problem = random_problem(rng, shape, storage, epilogue)
    x = random_activations(rng, (dims.batch, dims.height, dims.width, dims.in_channels))
    out_shape = (dims.batch, dims.out_height, dims.out_width, dims.out_channels)
    residual = rng.integers(0, 256, out_shape, np.uint8)
    spec = other or AmxConvSpec(AMX, storage, epilogue, AmxStrip.of(dims).padded)
    in_place = epilogue.residual and epilogue.output == "u8" and seed % 2 == 0
    amx.executed()
    out = run_kernel(
        spec, dims, AMX, x, problem, residual, epilogue, in_place=in_place, parts=parts
    )
    sums = convolution_sums(x, problem, dims)
    np.testing.assert_array_equal(out, definition(sums, problem, residual, epilogue))
    return amx.executed()


@needs_amx
@pytest.mark.parametrize("storage", STORAGES)
@settings(max_examples=2 * SOME_EXAMPLES)
@given(ROWS, REDUCTIONS, CHANNELS, st.sampled_from(EPILOGUES), SEEDS)
def test_gemm_is_the_definition(
    storage: Storage, rows: int, k: int, n: int, epilogue: Epilogue, seed: int
) -> None:
    counts = check_gemm(storage, rows, k, n, epilogue, seed)
    if counts is None:
        return
    sums = -(-rows // 16) * -(-n // 16)
    assert (counts.configure, counts.release) == (1, 1)
    assert (counts.dot, counts.store) == (sums * -(-k // 64), sums)


@needs_amx
@pytest.mark.parametrize("storage", STORAGES)
@settings(max_examples=SOME_EXAMPLES // 2)
@given(st.integers(16, 100), PARTS, CHANNELS, st.sampled_from(EPILOGUES), SEEDS)
def test_gemm_in_parts_is_the_definition(
    storage: Storage, rows: int, k: int, n: int, epilogue: Epilogue, seed: int
) -> None:
    check_gemm(storage, rows, k, n, epilogue, seed)


@needs_amx
@pytest.mark.parametrize("storage", STORAGES)
def test_more_rows_than_a_strip(storage: Storage) -> None:
    """400 rows of 4100: two strips in five parts."""
    check_gemm(storage, 400, 4100, 33, Epilogue("u8", residual=True), 1)


@needs_amx
@pytest.mark.parametrize("storage", STORAGES)
@settings(max_examples=2 * SOME_EXAMPLES)
@given(convolutions(), st.sampled_from(EPILOGUES), SEEDS)
def test_conv_is_the_definition(
    storage: Storage, dims: ConvDims, epilogue: Epilogue, seed: int
) -> None:
    check_conv(storage, dims, epilogue, seed)


@needs_amx
@pytest.mark.parametrize("storage", STORAGES)
@settings(max_examples=SOME_EXAMPLES)
@given(convolutions(), st.sampled_from(EPILOGUES), SEEDS)
def test_gathered_conv_is_the_definition(
    storage: Storage, dims: ConvDims, epilogue: Epilogue, seed: int
) -> None:
    counts = check_conv(storage, dims, epilogue, seed, AmxGatheredSpec(AMX, storage, epilogue))
    sums = -(-dims.pixels // 16) * -(-dims.out_channels // 16)
    assert counts is None or counts.dot == sums * -(-dims.taps // 64)


@needs_amx
@pytest.mark.parametrize(
    ("dims", "padded", "joined"),
    [
        (ConvDims(2, 7, 7, 64, 7, 7, 33, (3, 3), pad_begin=(1, 1)), True, True),
        (ConvDims(2, 14, 14, 32, 14, 14, 17, (3, 3), pad_begin=(1, 1)), True, True),
        (ConvDims(1, 28, 28, 17, 14, 14, 40, (3, 3), (2, 2), (1, 1), (1, 1)), True, False),
        (ConvDims(2, 40, 40, 16, 20, 20, 32, (1, 1), (2, 2)), False, False),
        (ConvDims(2, 30, 30, 16, 28, 28, 32, (3, 3)), False, True),
        (ConvDims(1, 20, 20, 64, 10, 10, 32, (1, 1), (2, 2)), True, False),
        (ConvDims(1, 7, 7, 512, 7, 7, 32, (3, 3), pad_begin=(1, 1)), True, True),
        (ConvDims(1, 58, 70, 60, 58, 70, 16, (3, 3), pad_begin=(1, 1)), True, True),
        (ConvDims(1, 12, 12, 1100, 6, 6, 8, (1, 2), (2, 2)), True, False),
        (ConvDims(2, 26, 13, 900, 24, 11, 16, (3, 3)), False, True),
    ],
)
@pytest.mark.parametrize("storage", STORAGES)
def test_every_way_through_an_image(
    storage: Storage, dims: ConvDims, padded: bool, joined: bool
) -> None:
    strip = AmxStrip.of(dims)
    assert (strip.padded, strip.joined) == (padded, joined)
    check_conv(storage, dims, Epilogue("u8", residual=True), seed=4)


@settings(max_examples=200)
@given(st.data(), st.integers(1, 600), st.integers(7, 120))
def test_strips_fit_the_cache_and_the_image(data: st.DataObject, channels: int, size: int) -> None:
    kernel = data.draw(st.sampled_from([(3, 3), (5, 5), (7, 7), (1, 3)]))
    stride = data.draw(st.integers(1, 3))
    pad = (kernel[0] // 2, kernel[1] // 2)
    out = (size - 1) // stride + 1
    strides = (stride, stride)
    dims = ConvDims(1, size, size, channels, out, out, 8, kernel, strides, (1, 1), pad)
    strip = AmxStrip.of(dims)
    assert 1 <= strip.lines <= out
    assert strip.lines == 1 or strip.rows * strip.filled <= STRIP_BYTES


@dataclass(frozen=True)
class Shares:
    """A spec whose outermost dimension (rows, lines) is done in several calls."""

    spec: AmxGemmSpec | AmxConvSpec | AmxGatheredSpec
    bounds: list[int]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.spec, name)

    def call(self, b: Builder, operands: Operands, dims: Any, scalars: Scalars, part: None) -> None:
        """The arguments of the call of all, but for ``begin`` and ``end``."""
        self.spec.call(b, operands, dims, scalars)
        (whole,) = [
            i for i in b.ir.block.instructions if getattr(i, "callee", None) is self.emitted(b)
        ]
        b.ir.block.instructions.remove(whole)
        names = [argument.name for argument in whole.callee.args]
        for begin, end in pairwise(self.bounds):
            changed = {"begin": b.i64(begin).ir, "end": b.i64(end).ir}
            operand = dict(zip(names, whole.args, strict=True)) | changed
            b.ir.call(whole.callee, list(operand.values()))

    def emitted(self, b: Builder) -> Any:
        return b.module.globals[self.spec.name]


@needs_amx
@pytest.mark.parametrize("parts", [2, 3])
def test_parts_of_a_run(parts: int) -> None:
    epilogue = Epilogue("u8", residual=True)
    check_gemm("u4", 100, 70, 33, epilogue, 2, parts=parts)
    dims = ConvDims(2, 9, 9, 20, 9, 9, 33, (3, 3), pad_begin=(1, 1))
    check_conv("s8", dims, epilogue, 2, parts=parts)
    check_conv("s8", dims, epilogue, 2, AmxGatheredSpec(AMX, "s8", epilogue), parts=parts)


@needs_amx
@pytest.mark.parametrize("bounds", [[0, 5, 50], [0, 32, 50], [0, 16, 17, 18, 49, 50]])
def test_rows_can_be_shared_out(bounds: list[int]) -> None:
    """Any ranges of rows give what all rows at once give, also fewer than a tile has."""
    epilogue = Epilogue("u8", residual=True)
    check_gemm("u4", 50, 70, 33, epilogue, 2, Shares(AmxGemmSpec(AMX, "u4", epilogue), bounds))


@needs_amx
@pytest.mark.parametrize(
    "dims",
    [
        ConvDims(1, 9, 9, 20, 9, 9, 33, (3, 3), pad_begin=(1, 1)),
        ConvDims(1, 11, 11, 20, 9, 9, 33, (3, 3)),
        ConvDims(1, 17, 40, 20, 9, 20, 33, (1, 1), (2, 2)),
    ],
)
@pytest.mark.parametrize("bounds", [[0, 1, 9], [0, 4, 8, 9]])
def test_lines_can_be_shared_out(dims: ConvDims, bounds: list[int]) -> None:
    epilogue = Epilogue("u8", residual=True)
    spec = AmxConvSpec(AMX, "s8", epilogue, AmxStrip.of(dims).padded)
    check_conv("s8", dims, epilogue, 2, Shares(spec, bounds))
    pixels = [line * dims.out_width for line in bounds]
    check_conv("s8", dims, epilogue, 2, Shares(AmxGatheredSpec(AMX, "s8", epilogue), pixels))


@needs_amx
def test_rows_and_outputs_may_be_strided() -> None:
    dims, epilogue = GemmDims(37, 20, 18, lda=27, ldc=40, ldr=30), Epilogue("u8")
    check_strided(AmxGemmSpec(AMX, "s8", epilogue), dims, AMX, "s8", epilogue)


def test_the_inner_loop_has_one_load_for_each_product() -> None:
    """A load takes about half as long as a product: the products are the limit."""
    module = new_module(AMX, "test")
    AmxGemmSpec(AMX, "s8", Epilogue("u8")).emit(module, AMX)
    for function in module.functions:
        function.linkage = ""  # an internal function that nobody calls would be dropped
    text = jit.assembly(module, AMX)
    for size, loads, products in (("32x32", 4, 4), ("16x32", 3, 2), ("32x16", 3, 2)):
        body = text.split(f"\ntile_sums_{size}__amx:", 1)[1].split(".Lfunc_end", 1)[0]
        loops = [block for block in re.split(r"\n\.L\w+:", body) if "tdpbusd" in block]
        (loop,) = loops
        assert (loop.count("tileload"), loop.count("tdpbusd")) == (loads, products)
        assert "tilestored" not in loop
        assert "(%rsp" not in loop, "spills in the inner loop"


@needs_amx
@pytest.mark.parametrize(
    ("dims", "most"),
    [
        (ConvDims(1, 56, 56, 64, 56, 56, 64, (3, 3), pad_begin=(1, 1)), 1.05),
        (ConvDims(1, 28, 28, 128, 28, 28, 64, (3, 3), pad_begin=(1, 1)), 1.10),
        (ConvDims(1, 14, 14, 256, 14, 14, 32, (3, 3), pad_begin=(1, 1)), 1.15),
        (ConvDims(1, 7, 7, 512, 7, 7, 32, (3, 3), pad_begin=(1, 1)), 1.35),
    ],
)
def test_few_products_are_wasted(dims: ConvDims, most: float) -> None:
    """Products of 16 x 16 x 64 that are executed, as a multiple of those that are needed."""
    counts = check_conv("s8", dims, Epilogue("u8"), seed=1)
    if counts is None:
        pytest.skip("this CPU has AMX: nothing counts its instructions")
    needed = dims.pixels * dims.out_channels * dims.taps / (16 * 16 * 64)
    assert counts.dot <= most * needed
    assert counts.load <= 1.15 * counts.dot


def test_kernels_are_chosen_by_their_cost() -> None:
    epilogue = Epilogue("u8")

    def best(rows: int, k: int, n: int, storage: Storage = "s8") -> str:
        dims = GemmDims.dense(rows, k, n)
        specs = gemm_alternatives(AMX, dims, storage, epilogue)
        return min(specs, key=lambda spec: gemm_cycles(spec, dims)).name

    def best_conv(dims: ConvDims) -> str:
        specs = conv_alternatives(AMX, dims, "u4", epilogue)
        return min(specs, key=lambda spec: conv_cycles(spec, dims)).name

    assert best(49, 576, 96) == "u8_i8c_gemm_32x32c64_u8__amx"
    assert best(49, 96, 576, "u4") == "u8_i4c_gemm_32x32c64_u8__amx"
    assert best(3136, 64, 64) == "u8_i8c_gemm_32x32c64_u8__amx"
    for small in (best(1, 1024, 1000), best(12544, 16, 16), best(8, 4096, 4096, "u4")):
        assert small.endswith("__vnni512")
    assert best(49, 96, 576, "s16").endswith("__vnni512")
    stem = ConvDims(1, 224, 224, 3, 112, 112, 16, (3, 3), (2, 2), (1, 1), (1, 1))
    middle = ConvDims(1, 28, 28, 128, 28, 28, 128, (3, 3), pad_begin=(1, 1))
    assert best_conv(stem).endswith("__vnni512")
    assert best_conv(middle) == "u8_i4c_conv_32x32c64_u8__amx"
    small = ConvDims(1, 14, 14, 512, 7, 7, 512, (3, 3), (2, 2), pad_begin=(1, 1))
    assert best_conv(small) == "u8_i4c_conv_gathered_32x32c64_u8__amx"
    vector = gemm_alternatives(VNNI512, GemmDims.dense(64, 64, 64), "s8", epilogue)
    both = gemm_alternatives(AMX, GemmDims.dense(64, 64, 64), "s8", epilogue)
    assert len({spec.name for spec in both}) == len(vector) + 1


def test_too_few_rows_and_missing_operands_are_named() -> None:
    b = Builder.function(new_module(AMX, "test"), AMX, "run", p="ptr")
    p = b.pointer("p")
    operands = Operands(p, p, p, p, p)
    spec = AmxGemmSpec(AMX, "s8", Epilogue("u8", residual=True))
    with pytest.raises(ValueError, match="needs 16 rows, got 15"):
        spec.call(b, operands, GemmDims.dense(15, 8, 8), Scalars())
    with pytest.raises(ValueError, match="needs scratch memory"):
        spec.call(b, operands, GemmDims.dense(16, 8, 8), Scalars())
    with pytest.raises(ValueError, match="needs a residual"):
        spec.call(b, Operands(p, p, p, p, p, None, p), GemmDims.dense(16, 8, 8), Scalars())
    conv = AmxConvSpec(AMX, "s8", Epilogue("u8"), padded=False)
    dims = ConvDims(1, 7, 7, 64, 7, 7, 33, (3, 3), pad_begin=(1, 1))
    with pytest.raises(ValueError, match="is not the kernel of ConvDims"):
        conv.call(b, operands, dims, Scalars())
    gathered = AmxGatheredSpec(AMX, "s8", Epilogue("u8"))
    with pytest.raises(ValueError, match="needs scratch memory"):
        gathered.call(b, operands, dims, Scalars())
    with pytest.raises(ValueError, match="is not the kernel of ConvDims"):
        gathered.call(b, operands, replace(dims, groups=2), Scalars())


@given(st.integers(1, 200), st.integers(1, 9), st.sampled_from(STORAGES))
def test_segments_are_padded_to_blocks(run: int, segments: int, storage: Storage) -> None:
    layout = AmxGemmSpec(AMX, storage, Epilogue("u8")).product.layout(
        3, run * segments, 1, segments
    )
    assert layout.padded_k == segments * round_up(run, 64)
