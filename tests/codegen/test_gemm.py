"""Matrix products equal the definition for every storage, epilogue, tile edge and machine."""

from __future__ import annotations

import re
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.codegen.harness import (
    EPILOGUES,
    SEEDS,
    SOME_EXAMPLES,
    host_isas,
)
from tests.codegen.products import check_dense, check_strided
from uqfc.codegen import jit
from uqfc.codegen.builder import Builder, new_module
from uqfc.codegen.isa import AVX2, ISAS, PORTABLE, VNNI512, Isa
from uqfc.codegen.kernels import Epilogue, GemmDims, Operands, Scalars, gemm_spec
from uqfc.codegen.kernels.gemm import best_tile_rows, tile_heights
from uqfc.codegen.kernels.tile import overlap_of
from uqfc.packing import NARROW_BITS, Storage

ROWS = st.one_of(st.integers(1, 40), st.sampled_from([47, 49, 61]))
CHANNELS = st.sampled_from(
    [1, 2, 3, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33, 40, 47, 49, 63, 64, 65, 80]
)
REDUCTIONS = st.sampled_from([1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 100])


@pytest.mark.parametrize("storage", ["s8", "u4", "u2", "s16"])
@pytest.mark.parametrize("isa", host_isas())
@settings(max_examples=SOME_EXAMPLES)
@given(ROWS, REDUCTIONS, CHANNELS, st.sampled_from(EPILOGUES), SEEDS)
def test_gemm_is_the_definition(
    isa: Isa, storage: Storage, rows: int, k: int, n: int, epilogue: Epilogue, seed: int
) -> None:
    dims = GemmDims.dense(rows, k, n)
    heights = tile_heights(isa, rows)
    spec = gemm_spec(isa, dims, storage, epilogue, heights[seed % len(heights)])
    check_dense(spec, dims, isa, storage, epilogue, seed)


@pytest.mark.parametrize("storage", ["s8", "u4"])
@pytest.mark.parametrize("isa", host_isas())
def test_rows_that_share_sets_of_a_cache_are_copied(isa: Isa, storage: Storage) -> None:
    rows, k, n, epilogue = 67, 2048, 128, Epilogue("u8")
    dims = GemmDims.dense(rows, k, n)
    spec = gemm_spec(isa, dims, storage, epilogue)
    assert spec.scratch_bytes(dims) >= rows * k
    check_dense(spec, dims, isa, storage, epilogue, 5)


@pytest.mark.parametrize("isa", host_isas())
def test_rows_and_outputs_may_be_strided(isa: Isa) -> None:
    epilogue = Epilogue("u8", residual=True)
    dims = GemmDims(13, 20, 18, lda=27, ldc=40, ldr=50)
    check_strided(gemm_spec(isa, dims, "s8", epilogue), dims, isa, "s8", epilogue)


@pytest.mark.parametrize(
    ("isa", "rows", "storage", "name"),
    [
        (VNNI512, 196, "u4", "u8_i4c_gemm_7x32c4o8_u8__vnni512"),
        (VNNI512, 12, "s8", "u8_i8c_gemm_12x32c4_u8__vnni512"),
        (VNNI512, 196, "s16", "u8_i16c_gemm_7x32c4_u8__vnni512"),
        (VNNI512, 1, "s16", "u8_i16c_gemm_1x32c4_u8__vnni512"),
        (AVX2, 49, "u4", "u8_i4c_gemm_6x16c4_u8__avx2"),
        (PORTABLE, 3, "s8", "u8_i8c_gemm_2x16c4_u8__portable"),
    ],
)
def test_kernel_names(isa: Isa, rows: int, storage: Storage, name: str) -> None:
    assert gemm_spec(isa, GemmDims.dense(rows, 32, 8), storage, Epilogue("u8")).name == name


def test_epilogues_are_told_apart_by_name() -> None:
    dims = GemmDims.dense(4, 8, 8)
    names = {gemm_spec(AVX2, dims, "s8", epilogue).name for epilogue in EPILOGUES}
    assert len(names) == len(EPILOGUES)


@pytest.mark.parametrize("isa", ISAS.values(), ids=list(ISAS))
def test_tiles_fit(isa: Isa) -> None:
    for rows in range(1, 200):
        for steps in (1, 3, 8):
            assert 1 <= best_tile_rows(isa, rows, steps) <= isa.tile_rows


@pytest.mark.parametrize("isa", ISAS.values(), ids=list(ISAS))
def test_tiles_overlap_where_segments_are_long_enough(isa: Isa) -> None:
    for rows, steps in product(range(1, isa.tile_rows + 1), range(1, 20)):
        overlap = overlap_of(isa, rows, steps)
        assert overlap <= steps
        assert (overlap > 0) == (4 <= rows <= isa.overlapped_rows and steps >= 3)


EXPECTED_INSTRUCTIONS = {
    **dict.fromkeys(product(("amx", "vnni512", "avxvnni"), ("s8", "u4", "u2")), "vpdpbusd"),
    **dict.fromkeys(product(("amx", "vnni512", "avxvnni"), ("s16",)), "vpdpwssd"),
    ("avx2", "s8"): "vpmaddwd",
    ("avx2", "u4"): "vpmaddubsw",
    ("avx2", "u2"): "vpmaddubsw",
    ("avx2", "s16"): "vpmaddwd",
}


@pytest.mark.parametrize("storage", ["s8", "u4", "u2", "s16"])
@pytest.mark.parametrize("name", ISAS)
def test_instructions(name: str, storage: Storage) -> None:
    """The dot product is the expected one; nothing else is contracted, nothing is called."""
    isa = ISAS[name]
    module = new_module(isa, "test")
    for epilogue in [epilogue for epilogue in EPILOGUES if not epilogue.fuses(isa)]:
        spec = gemm_spec(isa, GemmDims.dense(48, 32, 8), storage, epilogue)
        spec.emit(module, isa)
        for channels in isa.tile_channels:
            spec.product.tile(channels).emit(module, isa)
    for function in module.functions:
        function.linkage = ""  # visible, so that none is dropped
    defined = {function.name for function in module.functions}
    text = jit.assembly(module, isa)
    assert EXPECTED_INSTRUCTIONS.get((name, storage), "pmaddwd") in text
    saturating = name == "avx2" and storage in NARROW_BITS
    assert ("maddubs" in text) == saturating
    assert not re.search("fn?m(add|sub)[0-9]", text)
    assert {c.removesuffix("@PLT") for c in re.findall(r"callq\s+(\w+)", text)} <= defined


def test_missing_operands_are_named() -> None:
    module = new_module(AVX2, "test")
    b = Builder.function(module, AVX2, "run", p="ptr")
    pointer = b.pointer("p")
    operands = Operands(pointer, pointer, pointer, pointer, pointer)
    dims = GemmDims.dense(4, 8, 8)
    with pytest.raises(ValueError, match="needs scratch memory"):
        gemm_spec(AVX2, dims, "u4", Epilogue("u8")).call(b, operands, dims, Scalars())
    with pytest.raises(ValueError, match="needs a residual"):
        gemm_spec(AVX2, dims, "s8", Epilogue("u8", None, True)).call(b, operands, dims, Scalars())


def test_tiles_do_not_overlap_further_than_k_reaches() -> None:
    b = Builder.function(new_module(VNNI512, "test"), VNNI512, "run", p="ptr")
    operands = Operands(*[b.pointer("p")] * 7)
    spec = gemm_spec(VNNI512, GemmDims.dense(196, 64, 32), "u4", Epilogue("u8"))
    assert spec.overlap == 8
    with pytest.raises(ValueError, match="is not a kernel of"):
        spec.call(b, operands, GemmDims.dense(196, 28, 32), Scalars())


def test_impossible_epilogues_are_refused() -> None:
    relu = next(e.activation for e in EPILOGUES if e.name == "relu_add_f32")
    with pytest.raises(ValueError, match="'relu' is a clamp"):
        Epilogue("u8", relu)
    with pytest.raises(ValueError, match="neither activation nor residual"):
        Epilogue("i32", relu)
