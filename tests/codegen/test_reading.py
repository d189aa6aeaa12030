"""However tiles come by their weights, products are the same; see ``kernels.reading``."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.codegen.harness import EPILOGUES, SEEDS, SOME_EXAMPLES, host_isas
from tests.codegen.products import check_dense
from uqfc.codegen import jit
from uqfc.codegen.builder import Builder, new_module
from uqfc.codegen.isa import VNNI512, Isa
from uqfc.codegen.kernels import Epilogue, GemmDims, Operands, Scalars, gemm_spec
from uqfc.codegen.kernels.product import Product
from uqfc.codegen.kernels.reading import (
    LEAST_BYTES,
    MOST_ROWS,
    PLAIN,
    ROWS_BYTES,
    Reading,
    reading_of,
)
from uqfc.packing import NARROW_BITS, PanelLayout, Storage

STORAGES: tuple[Storage, ...] = ("s8", "u4", "u2")


@pytest.mark.parametrize("isa", host_isas("vnni512"))
@pytest.mark.parametrize("storage", STORAGES)
@settings(max_examples=SOME_EXAMPLES)
@given(
    rows=st.one_of(st.integers(4, 30), st.sampled_from([48, 49, 50, 99])),
    words=st.sampled_from([2, 3, 4, 5, 8, 9, 17]),
    n=st.sampled_from([1, 15, 16, 17, 31, 32, 33, 48, 64, 65, 100]),
    epilogue=st.sampled_from(EPILOGUES),
    prefetch=st.booleans(),
    parts=st.sampled_from([None, 2, 3]),
    seed=SEEDS,
)
def test_every_reading_gives_the_definition(
    isa: Isa,
    storage: Storage,
    rows: int,
    words: int,
    n: int,
    epilogue: Epilogue,
    prefetch: bool,
    parts: int | None,
    seed: int,
) -> None:
    bits = NARROW_BITS.get(storage, 8)
    dims = GemmDims.dense(rows, 16 * words - seed % 4, n)
    spec = gemm_spec(isa, dims, storage, epilogue, min(rows, isa.overlapped_rows))
    wanted = [Reading(prefetch, bits), Reading(prefetch), PLAIN]
    reading = next(r for r in wanted if r.fits(spec.layout(dims), spec.overlap))
    spec = replace(spec, reading=reading)
    assert spec.overlap > 0
    assert f"{spec.tile_rows}x32c4o{spec.overlap}{reading.name}_" in spec.name
    decodes = 0 if reading.bits == 8 else spec.scratch_bytes(dims)
    assert decodes == 0, "what is decoded in registers needs no memory"
    check_dense(spec, dims, isa, storage, epilogue, seed, parts=parts)


def layouts() -> st.SearchStrategy[PanelLayout]:
    sizes = st.sampled_from([8, 20, 24, 32, 36, 64, 96, 960])
    return st.builds(
        PanelLayout,
        n=st.sampled_from([16, 32, 33, 160, 1280]),
        k=sizes,
        storage=st.sampled_from(STORAGES),
        panel=st.just(32),
    )


@given(
    layouts(),
    st.integers(1, 300),
    st.sampled_from([1000, ROWS_BYTES, ROWS_BYTES + 1]),
    st.sampled_from([0, 3, 8]),
)
def test_readings_fit_and_are_for_weights_that_come_from_far(
    layout: PanelLayout, rows: int, rows_bytes: int, overlap: int
) -> None:
    reading = reading_of(layout, rows, rows_bytes, overlap)
    steps = -(-layout.k // 4)
    if overlap in (0, steps) or rows_bytes > ROWS_BYTES:
        assert reading == PLAIN
    if reading != PLAIN:
        assert reading.fits(layout, overlap)
        assert layout.bytes >= LEAST_BYTES
    if reading.bits < 8:
        assert rows <= MOST_ROWS
        assert reading.bits == NARROW_BITS[layout.storage]


@pytest.mark.parametrize(
    ("rows", "k", "n", "storage", "tile"),
    [
        (49, 960, 160, "s8", "7x32c4o8p"),
        (49, 960, 160, "u4", "7x32c4o8pd4"),
        (49, 960, 320, "u2", "7x32c4o8pd2"),
        (49, 2880, 32, "u4", "7x32c4o8d4"),
        (49, 964, 160, "u4", "7x32c4o8p"),
        (49, 96, 576, "u4", "7x32c4o8"),
        (196, 96, 576, "s8", "7x32c4o8p"),
        (196, 96, 576, "u4", "7x32c4o8"),
        (3136, 256, 256, "s8", "7x32c4o8"),
    ],
)
def test_kernel_names(rows: int, k: int, n: int, storage: Storage, tile: str) -> None:
    spec = gemm_spec(VNNI512, GemmDims.dense(rows, k, n), storage, Epilogue("u8"))
    assert f"_{tile}_" in spec.name


def test_what_is_ahead_is_prefetched() -> None:
    module = new_module(VNNI512, "test")
    for storage in STORAGES:
        spec = gemm_spec(VNNI512, GemmDims.dense(49, 960, 320), storage, Epilogue("u8"))
        spec.product.tile(32).emit(module, VNNI512)
    for function in module.functions:
        function.linkage = ""
    assert jit.assembly(module, VNNI512).count("prefetcht0") >= len(STORAGES)


def test_what_is_prefetched_with_a_group_depends_on_how_many_there_are() -> None:
    """Products of one module whose tiles differ are functions of their own."""
    module = new_module(VNNI512, "test")
    products = [
        Product(VNNI512, "s8", rows, Epilogue("u8"), overlap, Reading(prefetch=True))
        for rows in (6, 7)
        for overlap in (3, 8)
    ]
    names = {product.emit(module, VNNI512).name for product in products}
    assert len(names) == len(products)


def test_words_that_hold_parts_of_two_tiles_are_not_decoded() -> None:
    b = Builder.function(new_module(VNNI512, "test"), VNNI512, "run", p="ptr")
    operands = Operands(*[b.pointer("p")] * 7)
    spec = gemm_spec(VNNI512, GemmDims.dense(49, 960, 160), "u4", Epilogue("u8"))
    assert spec.reading.bits == 4
    with pytest.raises(ValueError, match="is not a kernel of"):
        spec.call(b, operands, GemmDims.dense(49, 964, 160), Scalars())
