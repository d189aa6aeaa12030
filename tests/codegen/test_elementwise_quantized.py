"""Elementwise kernels of two quantized tensors give the bits of their definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.codegen.harness import SEEDS
from tests.codegen.tensor_harness import (
    SIZES,
    assert_same,
    check,
    every_isa,
    few_examples,
    one_op,
    operand,
    random_array,
    run_tensor_kernel,
    some_examples,
)
from uqfc import numerics
from uqfc.codegen.isa import Isa
from uqfc.codegen.kernels.elementwise import ElementwiseKernel, Input, Step
from uqfc.codegen.kernels.elementwise_quantized import AddQuantized, MulQuantized
from uqfc.codegen.kernels.saturating import packs
from uqfc.dialects import qnn


@every_isa
@given(seed=SEEDS, n=SIZES | st.just(200), m=SIZES, zeros=st.tuples(*[st.integers(0, 255)] * 3))
@some_examples
def test_quantized_arithmetic(
    isa: Isa, seed: int, n: int, m: int, zeros: tuple[int, int, int]
) -> None:
    rng = np.random.default_rng(seed)
    a, gate = random_array(rng, "u8", (2, m, n)), random_array(rng, "u8", (2, 1, n))
    ma, mb = (float(v) for v in (2.0 ** rng.uniform(-9, 1, 2)).astype(np.float32))
    if rng.random() < 0.2:
        ma, mb = 2.0**127, -(2.0**127)
    za, zb, zy = zeros
    bounds = (min(zy, 5), max(zy, 251))
    factors = {"lhs_multiplier": ma, "rhs_multiplier": mb}
    add = qnn.QAddOp(operand(a), operand(gate), zeros, bounds, factors)
    mul = qnn.QMulOp(operand(a), operand(gate), zeros, bounds, {"multiplier": ma})
    add_quantized = AddQuantized(za, ma, zb, mb, zy, *bounds)
    mul_quantized = MulQuantized(za, zb, ma, zy, *bounds)
    check(isa, one_op(isa, add_quantized, ("u8", "u8"), a, gate), add, a, gate, in_place=0)
    check(isa, one_op(isa, mul_quantized, ("u8", "u8"), a, gate), mul, a, gate, in_place=0)


@every_isa
@given(seed=SEEDS, rows=st.integers(1, 9), n=st.sampled_from([16, 17, 48, 64, 72, 120, 130, 150]))
@some_examples
def test_gates_of_channels_are_read_once(isa: Isa, seed: int, rows: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    x, gate = random_array(rng, "u8", (2, rows, n)), random_array(rng, "u8", (1, 1, n))
    multiplier = float(np.float32(2.0 ** rng.uniform(-9, -5)))
    op = qnn.QMulOp(operand(gate), operand(x), (3, 7, 5), (0, 255), {"multiplier": multiplier})
    mul = MulQuantized(3, 7, multiplier, 5, shares_lhs=seed % 2 == 0)
    kernel = one_op(isa, mul, ("u8", "u8"), gate, x)
    assert kernel.repeats == ((0,) if packs(isa) else ())
    check(isa, kernel, op, gate, x, in_place=1)


@every_isa
@given(seed=SEEDS, rows=st.integers(1, 5), n=st.sampled_from([5, 16, 40, 64, 72, 120, 150]))
@some_examples
def test_gates_of_rows_that_are_apart(isa: Isa, seed: int, rows: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    stored, gate = random_array(rng, "u8", (2, rows, n + 3)), random_array(rng, "u8", (n,))
    shape = (2, rows, n)
    inputs = (Input("u8", (n,)), Input("u8", shape, (rows * (n + 3), n + 3, 1)))
    mul = MulQuantized(3, 7, 0.0078125, 5, shares_lhs=True)
    kernel = ElementwiseKernel(isa, shape, inputs, (Step(mul, (0, 1)),))
    assert (kernel.repeats, kernel.grouped) == ((0,) if packs(isa) else (), False)
    a, b = gate.astype(np.int32), stored[..., :n].astype(np.int32)
    multiplier = np.array(0.0078125, np.float32)
    want = numerics.mul_quantized(a, 3, b, 7, multiplier, -5, 250, 5).astype(np.uint8)
    assert_same(run_tensor_kernel(kernel, [gate, stored], shape, np.uint8), want)


BYTES = np.arange(256, dtype=np.uint8)
PAIRS = {
    "dense": (np.repeat(BYTES, 256)[None], np.tile(BYTES, 256)[None]),
    "blocks": (BYTES[:, None].repeat(256, axis=1), BYTES[None]),
    "groups": (BYTES[:, None].repeat(272, axis=1), np.resize(BYTES, (1, 272))),
    "tails": (BYTES[:, None].repeat(257, axis=1), np.resize(BYTES, (1, 257))),
    "splat": (BYTES[None].repeat(256, axis=0), BYTES[:, None]),
}
"""Operands that meet with all their values."""
FACTORS = st.floats(2.0**-18, 2.0, width=32) | st.sampled_from([-0.25, 2.0**127, 3e-39])


@every_isa
@pytest.mark.parametrize("shape", PAIRS)
@given(
    factors=st.tuples(FACTORS, FACTORS),
    zeros=st.tuples(*[st.just(0) | st.integers(0, 255)] * 3),
    whole=st.booleans(),
    swap=st.booleans(),
)
@few_examples
def test_all_pairs_of_bytes(
    isa: Isa,
    shape: str,
    factors: tuple[float, float],
    zeros: tuple[int, int, int],
    whole: bool,
    swap: bool,
) -> None:
    arrays = PAIRS[shape][::-1] if swap else PAIRS[shape]
    a, b = (x.astype(np.int32) for x in arrays)
    (za, zb, zy), (ma, mb) = zeros, (np.array(f, np.float32) for f in factors)
    bounds = (0, 255) if whole else (min(zy, 5), max(zy, 251))
    limits = bounds[0] - zy, bounds[1] - zy
    add = AddQuantized(za, float(ma), zb, float(mb), zy, *bounds)
    mul = MulQuantized(za, zb, float(ma), zy, *bounds, shares_lhs=swap)
    want = {
        add: numerics.add_quantized(a, za, ma, b, zb, mb, *limits, zy),
        mul: numerics.mul_quantized(a, za, b, zb, ma, *limits, zy),
    }
    for op, values in want.items():
        kernel = one_op(isa, op, ("u8", "u8"), *arrays)
        repeated = ("blocks", "groups", "tails")
        assert bool(kernel.repeats) == (packs(isa) and shape in repeated)
        assert kernel.grouped == (packs(isa) and shape in repeated[:2])
        got = run_tensor_kernel(kernel, arrays, values.shape, np.uint8)
        assert_same(got, values.astype(np.uint8))


@every_isa
@given(
    seed=SEEDS, rows=st.integers(1, 5), n=st.sampled_from([16, 64, 70, 130]), planes=st.booleans()
)
@some_examples
def test_transposed_operands(isa: Isa, seed: int, rows: int, n: int, planes: bool) -> None:
    """Vectors of elements that are apart, or of planes that are interleaved when stored."""
    rng = np.random.default_rng(seed)
    stored, other = random_array(rng, "u8", (rows, n)), random_array(rng, "u8", (rows, n))
    shape = (n, rows) if planes else (rows, n)
    if not planes:
        stored = np.ascontiguousarray(stored.T)
    add = AddQuantized(3, 0.375, 5, 0.25, 7)
    apart = Input("u8", shape, (1, shape[0]))
    dense = apart if planes else Input("u8", shape)
    kernel = ElementwiseKernel(isa, shape, (apart, dense), (Step(add, (0, 1)),))
    assert bool(kernel.interleaved) == (planes and 1 < rows <= 4)
    a, b = stored.T.astype(np.int32), (other.T if planes else other).astype(np.int32)
    ma, mb = (np.array(m, np.float32) for m in (0.375, 0.25))
    want = numerics.add_quantized(a, 3, ma, b, 5, mb, -7, 248, 7).astype(np.uint8)
    got = run_tensor_kernel(kernel, [stored, other], shape, np.uint8)
    assert_same(got, np.ascontiguousarray(want))
