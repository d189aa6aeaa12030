"""Gather, interpolation and lookup tables give what the interpreter gives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.codegen.harness import SEEDS
from tests.codegen.tensor_harness import (
    DTYPES,
    SIZES,
    check,
    every_isa,
    operand,
    ordinary_floats,
    random_array,
    some_examples,
)
from uqfc.codegen.isa import VNNI512, Isa
from uqfc.codegen.kernels.lookup import LookupKernel
from uqfc.codegen.kernels.take import GatherKernel, InterpolateKernel
from uqfc.codegen.kernels.tensor import Dtype
from uqfc.dialects import nn, qnn
from uqfc_runtime.cpu import cpu_features

VBMI = replace(VNNI512, features=(*VNNI512.features, "+avx512vbmi"))


@every_isa
@given(
    seed=SEEDS,
    dtype=DTYPES,
    shape=st.tuples(SIZES, SIZES, SIZES),
    axis=st.integers(0, 2),
    count=SIZES,
    wide=st.booleans(),
)
@some_examples
def test_gather(
    isa: Isa,
    seed: int,
    dtype: Dtype,
    shape: tuple[int, ...],
    axis: int,
    count: int,
    wide: bool,
) -> None:
    """Indices may be negative, and far outside."""
    rng = np.random.default_rng(seed)
    x = random_array(rng, dtype, shape)
    size = shape[axis]
    integer = np.int64 if wide else np.int32
    indices = rng.integers(-2 * size, 2 * size, (count, 2), integer)
    ends = np.array([np.iinfo(integer).min, np.iinfo(integer).max], integer)
    indices = np.where(rng.random(indices.shape) < 0.1, rng.choice(ends, indices.shape), indices)
    kernel = GatherKernel(isa, dtype, shape, axis, "i64" if wide else "i32", indices.size)
    check(isa, kernel, nn.GatherOp(operand(x), operand(indices), axis), x, indices)


@every_isa
@given(
    seed=SEEDS,
    shape=st.tuples(st.integers(1, 3), SIZES, SIZES),
    axis=st.integers(0, 2),
    count=SIZES,
    taps=st.integers(1, 4),
)
@some_examples
def test_interpolate(
    isa: Isa, seed: int, shape: tuple[int, ...], axis: int, count: int, taps: int
) -> None:
    rng = np.random.default_rng(seed)
    x, weights = random_array(rng, "f32", shape), ordinary_floats(rng, count, taps)
    indices = rng.integers(0, shape[axis], (count, taps), np.int64)
    op = nn.InterpolateOp(operand(x), operand(indices), operand(weights), axis)
    kernel = InterpolateKernel(isa, shape, axis, count, taps)
    check(isa, kernel, op, x, indices, weights)


@every_isa
@given(seed=SEEDS, n=st.one_of(SIZES, st.integers(1, 400)), in_place=st.booleans())
@some_examples
def test_lookup(isa: Isa, seed: int, n: int, in_place: bool) -> None:
    rng = np.random.default_rng(seed)
    x, table = random_array(rng, "u8", (n,)), rng.integers(0, 256, 256, np.uint8)
    op = qnn.LookupOp(operand(x), operand(table))
    check(isa, LookupKernel(isa, n), op, x, table, in_place=0 if in_place else None)


@pytest.mark.skipif("avx512vbmi" not in cpu_features(), reason="this CPU has no AVX512-VBMI")
def test_lookup_with_byte_permutes() -> None:
    rng = np.random.default_rng(0)
    x, table = np.arange(256, dtype=np.uint8), rng.integers(0, 256, 256, np.uint8)
    kernel = LookupKernel(VBMI, 256)
    check(VBMI, kernel, qnn.LookupOp(operand(x), operand(table)), x, table)


def test_an_interpolation_needs_a_tap() -> None:
    with pytest.raises(ValueError, match="needs a tap"):
        InterpolateKernel(VNNI512, (3,), 0, 2, 0)
