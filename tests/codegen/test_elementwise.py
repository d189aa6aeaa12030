"""Elementwise kernels give the bits of the interpreter for chains, broadcasts and transposes."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.codegen.harness import SEEDS
from tests.codegen.tensor_harness import (
    DTYPES,
    NUMPY_DTYPES,
    SIZES,
    assert_same,
    check,
    every_isa,
    meaning,
    one_op,
    operand,
    random_array,
    run_tensor_kernel,
    some_examples,
)
from uqfc.codegen.isa import VNNI512, Isa
from uqfc.codegen.kernels import elementwise_ops as ops
from uqfc.codegen.kernels.elementwise import ElementwiseKernel, Input, Step
from uqfc.codegen.kernels.elementwise_quantized import AddQuantized
from uqfc.codegen.kernels.saturating import packs
from uqfc.codegen.kernels.tensor import Dtype
from uqfc.dialects import nn, qnn
from uqfc.dialects.tensors import element_type
from uqfc.elementary import UNARY, evaluate
from uqfc.numerics import Activation

PARAMETERS: dict[str, tuple[float, ...]] = {
    "celu": (1.3,),
    "clip": (-1.0, 2.5),
    "elu": (1.7,),
    "hard_sigmoid": (0.2, 0.5),
    "leaky_relu": (0.01,),
    "thresholded_relu": (1.0,),
}
INTEGERS: tuple[Dtype, ...] = ("u8", "i8", "i32", "i64")
QUANTIZED: tuple[Dtype, ...] = ("u8", "i32")
BINARY: dict[ops.BinaryKind, Any] = {
    "add": nn.AddOp,
    "sub": nn.SubOp,
    "mul": nn.MulOp,
    "div": nn.DivOp,
    "maximum": nn.MaximumOp,
    "minimum": nn.MinimumOp,
    "pow": nn.PowOp,
}


@every_isa
@pytest.mark.parametrize("name", sorted(UNARY))
def test_unary_functions_on_any_bits(isa: Isa, name: str) -> None:
    """65536 floats: random bits, and those whose low halves are all zeros or ones."""
    top = np.arange(2**16, dtype=np.uint32) << 16
    noise = np.random.default_rng(1).integers(0, 2**16, 2**16, np.uint32)
    bits = np.concatenate([top, top | 0xFFFF, top | noise])
    x = bits.view(np.float32)
    activation = Activation(name, PARAMETERS.get(name, ()))
    kernel = one_op(isa, ops.Unary(activation), ("f32",), x)
    got = run_tensor_kernel(kernel, [x], x.shape, np.float32)
    assert_same(got, evaluate(name, x, activation.params))


@every_isa
@given(
    seed=SEEDS, n=SIZES, dtype=st.sampled_from(["f32", *INTEGERS]), kind=st.sampled_from([*BINARY])
)
@some_examples
def test_binary(isa: Isa, seed: int, n: int, dtype: Dtype, kind: ops.BinaryKind) -> None:
    rng = np.random.default_rng(seed)
    x, y = random_array(rng, dtype, (3, n)), random_array(rng, dtype, (3, n))
    op = BINARY[kind](operand(x), operand(y))
    check(isa, one_op(isa, ops.Binary(kind), (dtype, dtype), x, y), op, x, y)


@every_isa
@given(seed=SEEDS, n=SIZES)
@some_examples
def test_float_power_is_its_definition(isa: Isa, seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    x = random_array(rng, "f32", (4, n))
    y = rng.choice(np.array([2, 3, -1, 0.5, 0, -2, 7, 0.75, 1e9, np.inf], np.float32), (4, n))
    op = nn.PowOp(operand(x), operand(y))
    check(isa, one_op(isa, ops.Binary("pow"), ("f32", "f32"), x, y), op, x, y)


@every_isa
@given(seed=SEEDS, n=SIZES, predicate=st.sampled_from(get_args(ops.Predicate)), data=st.data())
@some_examples
def test_compare(
    isa: Isa, seed: int, n: int, predicate: ops.Predicate, data: st.DataObject
) -> None:
    rng = np.random.default_rng(seed)
    dtype = data.draw(DTYPES)
    x, y = random_array(rng, dtype, (n,)), random_array(rng, dtype, (n,))
    y = np.where(rng.random(n) < 0.3, x, y)
    op = nn.CompareOp(operand(x), operand(y), predicate)
    check(isa, one_op(isa, ops.Compare(predicate), (dtype, dtype), x, y), op, x, y)


@every_isa
@given(
    seed=SEEDS,
    n=SIZES,
    source=DTYPES,
    target=DTYPES,
)
@some_examples
def test_cast(isa: Isa, seed: int, n: int, source: Dtype, target: Dtype) -> None:
    x = random_array(np.random.default_rng(seed), source, (n,))
    op = nn.CastOp(operand(x), element_type(np.dtype(NUMPY_DTYPES[target])))
    check(isa, one_op(isa, ops.Cast(target), (source,), x), op, x)


@every_isa
@given(seed=SEEDS, shape=st.tuples(SIZES, SIZES), data=st.data())
@some_examples
def test_select_broadcasts(
    isa: Isa, seed: int, shape: tuple[int, int], data: st.DataObject
) -> None:
    rng = np.random.default_rng(seed)
    dtype = data.draw(DTYPES)
    shapes = [
        data.draw(st.sampled_from([shape, (shape[0], 1), shape[1:], (1,), ()])) for _ in "123"
    ]
    shapes[data.draw(st.integers(0, 2))] = shape
    arrays = [random_array(rng, d, s) for d, s in zip(("i1", dtype, dtype), shapes, strict=True)]
    op = nn.SelectOp(*map(operand, arrays))
    check(isa, one_op(isa, ops.Select(), ("i1", dtype, dtype), *arrays), op, *arrays)


@every_isa
@given(
    seed=SEEDS,
    shape=st.tuples(st.integers(1, 3), st.integers(1, 4), SIZES, SIZES),
    permutation=st.permutations(range(4)),
    data=st.data(),
)
@some_examples
def test_transposed_and_broadcast_operands(
    isa: Isa,
    seed: int,
    shape: tuple[int, ...],
    permutation: list[int],
    data: st.DataObject,
) -> None:
    rng = np.random.default_rng(seed)
    stored = random_array(rng, "f32", shape)
    x = stored.transpose(permutation)
    other = data.draw(st.tuples(*(st.sampled_from([1, n]) for n in x.shape)))
    y = random_array(rng, "f32", other)
    strides = tuple(s // 4 for s in x.strides)
    inputs = (Input("f32", x.shape, strides), Input("f32", y.shape))
    kernel = ElementwiseKernel(isa, x.shape, inputs, (Step(ops.Binary("sub"), (0, 1)),))
    with np.errstate(all="ignore"):
        want = x - y
    got = run_tensor_kernel(kernel, [stored, y], x.shape, np.float32)
    assert_same(got, np.ascontiguousarray(want))


SCALES = st.one_of(
    st.floats(2.0**-12, 2.0**8, width=32),
    st.sampled_from([1.0, 0.5, 0.25, 1e-38, 3e38, 1.1754944e-38, 2.0**-101, 2.0**100]),
)


@every_isa
@given(seed=SEEDS, channels=st.integers(1, 5), pixels=SIZES, scale=SCALES, zero=st.integers(0, 255))
@some_examples
def test_quantize_to_interleaved_channels(
    isa: Isa, seed: int, channels: int, pixels: int, scale: float, zero: int
) -> None:
    """Values near ties are quantized as by division, in planar and interleaved images."""
    rng = np.random.default_rng(seed)
    halves = rng.integers(-600, 600, (2, channels, pixels)) / 2
    with np.errstate(all="ignore"):
        ties = (halves * scale).astype(np.float32)
        towards = rng.choice(np.array([-np.inf, 0.0, np.inf], np.float32))
        x = np.nextafter(ties, towards)
    x = np.where(rng.random(x.shape) < 0.5, x, random_array(rng, "f32", x.shape))
    qmin, qmax = (0, 255) if rng.random() < 0.5 else (min(zero, 3), max(zero, 250))
    step = Step(ops.Quantize(scale, zero, qmin, qmax), (0,))
    q = meaning(qnn.QuantizeOp(operand(x), scale, zero, qmin, qmax), x)
    plain = ElementwiseKernel(isa, x.shape, (Input("f32", x.shape),), (step,))
    assert_same(run_tensor_kernel(plain, [x], x.shape, np.uint8), q)
    shape = (2, pixels, channels)
    planes = Input("f32", shape, (channels * pixels, 1, pixels))
    kernel = ElementwiseKernel(isa, shape, (planes,), (step,))
    want = np.ascontiguousarray(q.transpose(0, 2, 1))
    assert_same(run_tensor_kernel(kernel, [x], shape, np.uint8), want)


def test_images_are_interleaved_in_vectors() -> None:
    planes = Input("f32", (1, 8, 8, 3), (192, 8, 1, 64))
    kernel = ElementwiseKernel(
        VNNI512, (1, 8, 8, 3), (planes,), (Step(ops.Quantize(1.0, 0), (0,)),)
    )
    assert (kernel.interleaved, kernel.reads) == (3, ("vector",))


@every_isa
@given(seed=SEEDS, n=SIZES | st.just(200), zero_point=st.integers(0, 255))
@some_examples
def test_dequantize(isa: Isa, seed: int, n: int, zero_point: int) -> None:
    rng = np.random.default_rng(seed)
    scale = 2.0**127 if rng.random() < 0.2 else float(np.float32(2.0 ** rng.uniform(-9, 1)))
    for dtype in QUANTIZED:
        q = random_array(rng, dtype, (n,))
        op = qnn.DequantizeOp(operand(q), scale, zero_point)
        check(isa, one_op(isa, ops.Dequantize(scale, zero_point), (dtype,), q), op, q)


@every_isa
@given(seed=SEEDS, rows=st.integers(2, 9), n=st.sampled_from([15, 16, 24, 64, 72]))
@some_examples
def test_chains_that_end_in_bytes_read_repeated_floats_once(
    isa: Isa, seed: int, rows: int, n: int
) -> None:
    rng = np.random.default_rng(seed)
    x, gate = random_array(rng, "f32", (2, rows, n)), random_array(rng, "f32", (2, 1, n))
    steps = (Step(ops.Binary("mul"), (0, 1)), Step(ops.Quantize(0.5, 9), (2,)))
    inputs = (Input("f32", x.shape), Input("f32", gate.shape))
    kernel = ElementwiseKernel(isa, x.shape, inputs, steps)
    assert kernel.repeats == ((1,) if packs(isa) else ())
    product = meaning(nn.MulOp(operand(x), operand(gate)), x, gate)
    want = meaning(qnn.QuantizeOp(operand(product), 0.5, 9, 0, 255), product)
    assert_same(run_tensor_kernel(kernel, [x, gate], x.shape, np.uint8), want)


@every_isa
def test_a_chain_is_its_ops_one_by_one(isa: Isa) -> None:
    rng = np.random.default_rng(0)
    x, y = random_array(rng, "f32", (5, 37)), random_array(rng, "f32", (37,))
    inputs = (Input("f32", x.shape), Input("f32", y.shape))
    steps = (
        Step(ops.Binary("mul"), (0, 1)),
        Step(ops.Unary(Activation("gelu")), (2,)),
        Step(ops.Compare("lt"), (3, 0)),
        Step(ops.Select(), (4, 3, 1)),
    )
    kernel = ElementwiseKernel(isa, x.shape, inputs, steps)
    product = meaning(nn.MulOp(operand(x), operand(y)), x, y)
    h = evaluate("gelu", product)
    want = np.where(h < x, h, y)
    assert_same(run_tensor_kernel(kernel, [x, y], x.shape, np.float32), want)


def test_empty_and_scalar_tensors() -> None:
    isa = VNNI512
    for shape in ((0, 3), (), (1, 1)):
        x = np.ones(shape, np.float32)
        kernel = one_op(isa, ops.Binary("add"), ("f32", "f32"), x, x)
        assert kernel.walk.sizes[-1] == (0 if 0 in shape else 1)


def test_wrong_operands_are_refused() -> None:
    exp = Step(ops.Unary(Activation("exp")), (0,))
    with pytest.raises(ValueError, match="does not broadcast"):
        ElementwiseKernel(VNNI512, (2,), (Input("f32", (3,)),), (exp,))
    with pytest.raises(ValueError, match=r"qadd_.*: operands are"):
        one_op(VNNI512, AddQuantized(0, 1.0, 0, 1.0, 0), ("f32",), np.ones(3, np.float32))
    with pytest.raises(ValueError, match="needs inputs and steps"):
        ElementwiseKernel(VNNI512, (2,), (), ())
