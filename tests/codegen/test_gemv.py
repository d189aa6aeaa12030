"""Products of few rows equal the definition for every storage, epilogue, tile edge and machine."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.codegen.harness import (
    EPILOGUES,
    SEEDS,
    SOME_EXAMPLES,
    definition,
    host_isas,
    random_problem,
    run_kernel,
)
from tests.codegen.products import check_dense, check_strided, product_sums
from uqfc.codegen import jit
from uqfc.codegen.builder import Builder, new_module
from uqfc.codegen.isa import AMX, AVX2, ISAS, PORTABLE, VNNI512, Isa
from uqfc.codegen.kernels import Epilogue, GemmDims, Operands, Scalars
from uqfc.codegen.kernels.choice import gemm_alternatives
from uqfc.codegen.kernels.gemv import LARGEST_K, MOST_ROWS, MOST_WIDE_BYTES, GemvSpec, gemv_spec
from uqfc.packing import NARROW_BITS, Storage

STORAGES: tuple[Storage, ...] = ("u4", "u4", "u2", "s8")
CHANNELS = st.sampled_from([1, 3, 8, 9, 16, 17, 31, 32, 33, 40, 41, 48, 49, 63, 64, 65, 80, 97])
REDUCTIONS = st.sampled_from([1, 3, 4, 5, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 100, 129])


def spec_for(isa: Isa, dims: GemmDims, storage: Storage, epilogue: Epilogue) -> GemvSpec:
    spec = gemv_spec(isa, dims, storage, epilogue)
    assert spec is not None
    return spec


@pytest.mark.parametrize("isa", host_isas())
@settings(max_examples=SOME_EXAMPLES)
@given(
    st.sampled_from(STORAGES),
    st.integers(0, 31),
    REDUCTIONS,
    CHANNELS,
    st.sampled_from(EPILOGUES),
    SEEDS,
)
def test_gemv_is_the_definition(
    isa: Isa, storage: Storage, more: int, k: int, n: int, epilogue: Epilogue, seed: int
) -> None:
    rows = 1 + (more % MOST_ROWS[isa.name] if storage in NARROW_BITS else 0)
    dims = GemmDims.dense(rows, k, n)
    spec = spec_for(isa, dims, storage, epilogue)
    check_dense(spec, dims, isa, storage, epilogue, seed)


@pytest.mark.parametrize("isa", host_isas())
def test_the_largest_sums_are_exact(isa: Isa) -> None:
    """Weights at both ends of their range, scaled or not, and K at its limit."""
    k, n, epilogue = LARGEST_K, 3, Epilogue("i32")
    ends: dict[Storage, int] = {"u4": 15, "u2": 3}
    for storage, largest in ends.items():
        dims = GemmDims.dense(1, k, n)
        spec = spec_for(isa, dims, storage, epilogue)
        problem = random_problem(np.random.default_rng(0), (n, k), storage, epilogue)
        problem.weights[:] = np.array([[0], [largest], [0]])
        problem.weights[2, 1::2] = largest
        problem.zero_points[:] = [1, largest - 1, largest // 2]
        x = np.full((1, k), 255, np.uint8)
        residual = np.zeros((1, n), np.uint8)
        out = run_kernel(spec, dims, isa, x, problem, residual, epilogue)
        expected = definition(product_sums(x, problem), problem, residual, epilogue)
        np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("isa", host_isas())
def test_rows_and_outputs_may_be_strided(isa: Isa) -> None:
    epilogue = Epilogue("u8", residual=True)
    dims = GemmDims(MOST_ROWS[isa.name], 20, 50, lda=27, ldc=70, ldr=90)
    check_strided(spec_for(isa, dims, "u4", epilogue), dims, isa, "u4", epilogue)


def chosen(isa: Isa, dims: GemmDims, storage: Storage) -> list[str]:
    return [spec.name for spec in gemm_alternatives(isa, dims, storage, Epilogue("u8"))]


def test_few_rows_are_for_this_kernel() -> None:
    dims = GemmDims.dense(1, 64, 100)
    assert chosen(VNNI512, dims, "u4") == ["u8_i4c_gemv_1x32c4_u8__vnni512"]
    assert chosen(VNNI512, dims, "s8") == ["u8_i8c_gemv_1x32c4_u8__vnni512"]
    assert chosen(AVX2, dims, "u2") == ["u8_i2c_gemv_1x16c4_u8__avx2"]
    assert chosen(AVX2, GemmDims.dense(4, 64, 100), "u4") == ["u8_i4c_gemv_4x16c4_u8__avx2"]
    assert chosen(AMX, GemmDims.dense(15, 64, 100), "u4") == ["u8_i4c_gemv_7x32c4_u8__vnni512"]


@pytest.mark.parametrize(
    ("isa", "dims", "storage"),
    [
        (VNNI512, GemmDims.dense(1, 64, 100), "s16"),
        (VNNI512, GemmDims.dense(2, 64, 100), "s8"),
        (VNNI512, GemmDims.dense(1, 4096, MOST_WIDE_BYTES // 4096 + 1), "s8"),
        (VNNI512, GemmDims.dense(1, LARGEST_K + 1, 3), "u4"),
        (VNNI512, GemmDims.dense(33, 64, 100), "u4"),
        (PORTABLE, GemmDims.dense(2, 64, 100), "u4"),
        (AMX, GemmDims.dense(16, 64, 100), "u4"),
    ],
)
def test_other_products_are_not(isa: Isa, dims: GemmDims, storage: Storage) -> None:
    assert not any("_gemv_" in name for name in chosen(isa, dims, storage))


def test_more_rows_and_longer_sums_are_refused() -> None:
    b = Builder.function(new_module(VNNI512, "test"), VNNI512, "run", p="ptr")
    operands = Operands(*[b.pointer("p")] * 7)
    spec = GemvSpec(VNNI512, "u4", 1, Epilogue("u8"))
    for rows, k in ((MOST_ROWS["vnni512"] + 1, 64), (1, LARGEST_K + 1)):
        with pytest.raises(ValueError, match="is not a kernel of"):
            spec.call(b, operands, GemmDims.dense(rows, k, 32), Scalars())


def test_tiles_are_no_higher_than_their_rows() -> None:
    for isa in ISAS.values():
        for rows in range(1, MOST_ROWS[isa.name] + 1):
            spec = spec_for(isa, GemmDims.dense(rows, 64, 64), "u4", Epilogue("u8"))
            assert 1 <= spec.tile_rows <= min(rows, isa.tile_rows)


@pytest.mark.parametrize("rows", [1, 8])
def test_nibbles_stay_in_registers(rows: int) -> None:
    """No scratch memory; weights are read ahead; where sums have room no nibble is shifted."""
    dims, epilogue = GemmDims.dense(rows, 64, 64), Epilogue("i32")
    spec = spec_for(VNNI512, dims, "u4", epilogue)
    module = new_module(VNNI512, "test")
    spec.emit(module, VNNI512).linkage = ""  # visible, so that it is not dropped
    text = jit.assembly(module, VNNI512)
    assert spec.scratch_bytes(dims) == 0
    assert "vpdpbusd" in text
    assert "prefetcht0" in text
    assert bool(re.search(r"vpsrl[dw]\s+\$4, %zmm", text)) == (rows > 6)
