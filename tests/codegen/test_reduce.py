"""Reductions and normalisations give the bits of the interpreter."""

from __future__ import annotations

from typing import get_args

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.codegen.harness import SEEDS
from tests.codegen.tensor_harness import (
    SIZES,
    check,
    every_isa,
    operand,
    ordinary_floats,
    random_array,
    some_examples,
)
from uqfc.codegen.isa import Isa
from uqfc.codegen.kernels.norm import LayerNormKernel, LrnKernel
from uqfc.codegen.kernels.reduce import ReduceKernel, ReduceKind
from uqfc.codegen.kernels.softmax import SoftmaxKernel
from uqfc.codegen.kernels.tensor import Dtype
from uqfc.dialects import nn

SHAPES = st.tuples(st.integers(1, 3), SIZES, SIZES, st.integers(1, 3))


@every_isa
@given(
    seed=SEEDS,
    dtype=st.sampled_from(["f32", "f32", "i8", "i32", "i64"]),
    shape=SHAPES,
    axes=st.sets(st.integers(0, 3), min_size=1),
    kind=st.sampled_from(get_args(ReduceKind)),
)
@some_examples
def test_reduce(
    isa: Isa,
    seed: int,
    dtype: Dtype,
    shape: tuple[int, ...],
    axes: set[int],
    kind: ReduceKind,
) -> None:
    """The mean of more 8-bit values than their type can count has no meaning."""
    if dtype == "i8" and kind == "mean":
        dtype = "i32"
    x = random_array(np.random.default_rng(seed), dtype, shape)
    kernel = ReduceKernel(isa, dtype, shape, tuple(sorted(axes)), kind)
    check(isa, kernel, nn.ReduceOp(operand(x), kind, sorted(axes)), x)


@every_isa
@given(seed=SEEDS, shape=SHAPES, axis=st.integers(0, 3), in_place=st.booleans())
@some_examples
def test_softmax(isa: Isa, seed: int, shape: tuple[int, ...], axis: int, in_place: bool) -> None:
    x = random_array(np.random.default_rng(seed), "f32", shape)
    op = nn.SoftmaxOp(operand(x), axis)
    place = 0 if in_place else None
    check(isa, SoftmaxKernel(isa, shape, axis), op, x, in_place=place)


@every_isa
@given(seed=SEEDS, shape=SHAPES, rank=st.integers(1, 3), in_place=st.booleans())
@some_examples
def test_layer_norm(isa: Isa, seed: int, shape: tuple[int, ...], rank: int, in_place: bool) -> None:
    rng = np.random.default_rng(seed)
    x = random_array(rng, "f32", shape)
    scale, bias = ordinary_floats(rng, *shape[-rank:]), ordinary_floats(rng, *shape[-rank:])
    epsilon = float(np.float32(1e-5))
    op = nn.LayerNormOp(operand(x), operand(scale), operand(bias), epsilon)
    kernel = LayerNormKernel(isa, shape, rank, epsilon)
    check(isa, kernel, op, x, scale, bias, in_place=0 if in_place else None)


@every_isa
@given(
    seed=SEEDS,
    rows=st.integers(1, 4),
    channels=SIZES,
    size=st.integers(1, 9),
    beta=st.sampled_from([0.75, 0.5, 1.0, 0.6]),
    in_place=st.booleans(),
)
@some_examples
def test_lrn(
    isa: Isa, seed: int, rows: int, channels: int, size: int, beta: float, in_place: bool
) -> None:
    x = random_array(np.random.default_rng(seed), "f32", (rows, channels))
    op = nn.LrnOp(operand(x), size, 0.01, beta, 2.0)
    alpha, exact_beta = op.alpha.value.data, op.beta.value.data
    kernel = LrnKernel(isa, x.shape, size, alpha, exact_beta, 2.0)
    check(isa, kernel, op, x, in_place=0 if in_place else None)
