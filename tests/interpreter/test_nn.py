"""Meanings of ``nn`` ops against the sentences of their docstrings, written as loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from xdsl.dialects.builtin import i1, i32, i64
from xdsl.ir import Attribute, Block

from tests.interpreter.test_engine import function
from uqfc.dialects import nn
from uqfc.dialects.nn import TensorOp
from uqfc.dialects.tensors import Array, element_type, i4, i8, tensor_type, ui4, ui8
from uqfc.elementary import evaluate, evaluate_pow
from uqfc.interpreter import Interpreter
from uqfc.numerics import strided_sum

RANDOM = np.random.default_rng(0)


def run(make: type[TensorOp], *arrays: Array, **options: object) -> Array:
    """The result of one op on arrays."""
    block = Block(arg_types=[tensor_type(a.shape, element_type(a.dtype)) for a in arrays])
    op = make(*block.args, **options)
    block.add_op(op)
    module = function(block, op.result)
    module.verify()
    inputs = {f"input{i}": a for i, a in enumerate(arrays)}
    return Interpreter().run(module, inputs)["output0"]


def normal(*shape: int) -> Array:
    return RANDOM.standard_normal(shape, dtype=np.float32)


@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(-4, 4)), min_size=1))
def test_integer_division_truncates_and_by_zero_is_zero(pairs: list[tuple[int, int]]) -> None:
    a, b = (np.array(column, np.int32) for column in zip(*pairs, strict=True))
    expected = [int(m / n) if n else 0 for m, n in pairs]
    assert run(nn.DivOp, a, b).tolist() == expected


def test_integer_power_of_negative_exponents_truncates() -> None:
    a = np.array([2, -1, -1, 1, 3, 0], np.int64)
    b = np.array([-1, -3, -2, -5, 2, 0], np.int64)
    assert run(nn.PowOp, a, b).tolist() == [0, -1, 1, 1, 9, 1]


def test_float_power_is_the_elementary_one() -> None:
    a, b = np.abs(normal(50)), normal(50)
    assert np.array_equal(run(nn.PowOp, a, b), evaluate_pow(a, b))


def test_maximum_and_minimum_keep_the_left_operand_unless_the_right_one_wins() -> None:
    nan, zero = np.float32("nan"), np.float32(0)
    a = np.array([nan, 1, zero, -zero], np.float32)
    b = np.array([1, nan, -zero, zero], np.float32)
    for op in (nn.MaximumOp, nn.MinimumOp):
        result = run(op, a, b)
        assert np.isnan(result[0])
        assert result[1] == 1
        assert np.signbit(result[2:]).tolist() == [False, True]


@pytest.mark.parametrize(
    ("element", "expected"),
    [
        (i32, [0, 1, -1, -(2**31), 2**31 - 1, 2**31 - 1, 0]),
        (i64, [0, 1, -1, -(2**63), 3 * 10**9, 2**63 - 1, 0]),
        (i8, [0, 1, -1, -128, 127, 127, 0]),
        (ui8, [0, 1, 0, 0, 255, 255, 0]),
        (i4, [0, 1, -1, -8, 7, 7, 0]),
        (ui4, [0, 1, 0, 0, 15, 15, 0]),
        (i1, [True, True, True, True, True, True, True]),
    ],
    ids=str,
)
def test_float_to_int_truncates_and_saturates(element: Attribute, expected: list[int]) -> None:
    x = np.array([0.9, 1.9, -1.9, -np.inf, 3e9, np.inf, np.nan], np.float32)
    assert run(nn.CastOp, x, element=element).tolist() == expected


def test_gather_counts_from_the_end_and_clamps() -> None:
    x = np.arange(6, dtype=np.float32).reshape(3, 2)
    indices = np.array([0, -1, -3, 7, -9], np.int64)
    assert np.array_equal(run(nn.GatherOp, x, indices, axis=0), x[[0, 2, 0, 2, 0]])
    scalar = run(nn.GatherOp, x, np.array(1, np.int32), axis=1)
    assert np.array_equal(scalar, x[:, 1])


@given(st.data())
def test_slice_reads_starts_plus_multiples_of_steps(data: st.DataObject) -> None:
    sizes = [data.draw(st.integers(1, 5)) for _ in range(2)]
    steps = [data.draw(st.sampled_from([-2, -1, 1, 2])) for _ in sizes]
    spans = [step * (size - 1) for step, size in zip(steps, sizes, strict=True)]
    starts = [data.draw(st.integers(0, 2)) + max(0, -span) for span in spans]
    shape = [start + max(0, span) + 1 for start, span in zip(starts, spans, strict=True)]
    x = normal(*shape)
    result = run(nn.SliceOp, x, starts=starts, shape=sizes, steps=steps)
    for i, j in np.ndindex(*sizes):
        assert result[i, j] == x[starts[0] + i * steps[0], starts[1] + j * steps[1]]


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("constant", [9, 9, 1, 2, 3, 9]),
        ("reflect", [3, 2, 1, 2, 3, 2]),
        ("edge", [1, 1, 1, 2, 3, 3]),
        ("wrap", [2, 3, 1, 2, 3, 1]),
    ],
)
def test_pad_modes(mode: str, expected: list[float]) -> None:
    x = np.array([1, 2, 3], np.float32)
    assert run(nn.PadOp, x, low=[2], high=[1], value=9.0, mode=mode).tolist() == expected


def test_pad_of_integers() -> None:
    assert run(nn.PadOp, np.array([3], np.uint8), low=[1], high=[0], value=7.0).tolist() == [7, 3]


@pytest.mark.parametrize("kind", ["sum", "mean"])
@pytest.mark.parametrize("axes", [(0,), (1, 2), (0, 1, 2), (0, 2)])
def test_float_sums_flatten_the_axes_row_major(kind: str, axes: tuple[int, ...]) -> None:
    x = normal(3, 7, 5)
    kept = [i for i in range(3) if i not in axes]
    flat = x.transpose(*kept, *axes).reshape(*[x.shape[i] for i in kept], -1)
    expected = strided_sum(flat)
    if kind == "mean":
        expected = expected / np.float32(flat.shape[-1])
    result = run(nn.ReduceOp, x, kind=kind, axes=axes)
    assert np.array_equal(result.reshape(-1), expected.reshape(-1))


def test_other_reductions_go_in_order() -> None:
    x = normal(2, 40)
    product = np.multiply.accumulate(x, axis=1)[:, -1:]
    assert np.array_equal(run(nn.ReduceOp, x, kind="prod", axes=(1,)), product)
    assert np.array_equal(run(nn.ReduceOp, x, kind="max", axes=(1,)), x.max(1, keepdims=True))
    assert np.array_equal(run(nn.ReduceOp, x, kind="min", axes=(1,)), x.min(1, keepdims=True))


def test_integer_mean_truncates() -> None:
    x = np.array([[-3, -4], [3, 4]], np.int32)
    assert run(nn.ReduceOp, x, kind="mean", axes=(1,)).tolist() == [[-3], [3]]


POOLS = [
    ((2, 2), (2, 2), (0, 0, 0, 0), (1, 1)),
    ((3, 2), (1, 2), (1, 0, 1, 1), (1, 1)),
    ((2, 2), (1, 1), (2, 2, 2, 2), (2, 1)),
]


@pytest.mark.parametrize(("kernel", "strides", "padding", "dilations"), POOLS)
@pytest.mark.parametrize("count_include_pad", [False, True])
def test_pools(
    kernel: tuple[int, int],
    strides: tuple[int, int],
    padding: tuple[int, int, int, int],
    dilations: tuple[int, int],
    count_include_pad: bool,
) -> None:
    x = normal(1, 5, 6, 2)
    geometry = {"kernel": kernel, "strides": strides, "padding": padding, "dilations": dilations}
    highest = run(nn.MaxPool2dOp, x, **geometry)
    mean = run(nn.AvgPool2dOp, x, **geometry, count_include_pad=count_include_pad)
    for n, i, j, c in np.ndindex(*highest.shape):
        rows = [i * strides[0] + a * dilations[0] - padding[0] for a in range(kernel[0])]
        columns = [j * strides[1] + b * dilations[1] - padding[1] for b in range(kernel[1])]
        inside = [(y, z) for y in rows for z in columns if 0 <= y < 5 and 0 <= z < 6]
        total = np.float32(0)
        for y, z in inside:
            total = total + x[n, y, z, c]
        count = kernel[0] * kernel[1] if count_include_pad else len(inside)
        expected = total / np.float32(count) if count else np.float32("nan")
        assert np.array_equal(mean[n, i, j, c], expected, equal_nan=True)
        largest = max((x[n, y, z, c] for y, z in inside), default=-np.inf)
        assert highest[n, i, j, c] == largest


def test_max_pool_of_bytes() -> None:
    x = np.array([3, 200], np.uint8).reshape(1, 1, 2, 1)
    result = run(nn.MaxPool2dOp, x, kernel=(1, 2), padding=(0, 1, 0, 1))
    assert result.reshape(-1).tolist() == [3, 200, 200]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_softmax(axis: int) -> None:
    x = normal(3, 20, 4)
    last = np.moveaxis(x, axis, -1)
    e = evaluate("exp", last - last.max(axis=-1, keepdims=True))
    expected = np.moveaxis(e / strided_sum(e)[..., None], -1, axis)
    assert np.array_equal(run(nn.SoftmaxOp, x, axis=axis), expected)


def test_layer_norm_over_the_last_dimensions() -> None:
    x, scale, bias = normal(2, 3, 20), normal(3, 20), normal(3, 20)
    flat, n = x.reshape(2, 60), np.float32(60)
    d = flat - (strided_sum(flat) / n)[:, None]
    variance = strided_sum(np.asarray(d * d, np.float32)) / n
    expected = d / np.sqrt(variance + np.float32(0.1))[:, None] * scale.reshape(-1)
    result = run(nn.LayerNormOp, x, scale, bias, epsilon=0.1)
    assert np.array_equal(result.reshape(2, 60), expected + bias.reshape(-1))


@pytest.mark.parametrize("size", [1, 4, 5])
def test_lrn_sums_squares_of_neighbouring_channels(size: int) -> None:
    x = normal(1, 2, 2, 6)
    result = run(nn.LrnOp, x, size=size, alpha=0.5, beta=0.75, bias=1.5)
    for c in range(6):
        total = np.zeros((1, 2, 2), np.float32)
        for k in range(c - (size - 1) // 2, c + size // 2 + 1):
            if 0 <= k < 6:
                total = total + x[..., k] * x[..., k]
        base = np.float32(1.5) + np.float32(0.5) / np.float32(size) * total
        expected = x[..., c] / evaluate_pow(base, np.array(0.75, np.float32))
        assert np.array_equal(result[..., c], expected)


def test_interpolation_adds_taps_in_order() -> None:
    x = normal(2, 5, 3)
    indices = RANDOM.integers(0, 5, (4, 3))
    weights = normal(4, 3)
    result = run(nn.InterpolateOp, x, indices, weights, axis=1)
    for i in range(4):
        total = x[:, indices[i, 0]] * weights[i, 0]
        for t in (1, 2):
            total = total + x[:, indices[i, t]] * weights[i, t]
        assert np.array_equal(result[:, i], total)


def test_layers_add_bias_then_residual_then_activate() -> None:
    x, w, b, r = normal(3, 20), normal(4, 20), normal(4), normal(3, 4)
    plain = run(nn.LinearOp, x, w)
    full = run(nn.LinearOp, x, w, b, r, activation=nn.fn("relu"))
    assert np.array_equal(full, evaluate("relu", plain + b + r))
    image, kernel = x.reshape(3, 1, 1, 20), w.reshape(4, 1, 1, 20)
    conv = run(nn.Conv2dOp, image, kernel, b, r.reshape(3, 1, 1, 4), activation=nn.fn("relu"))
    assert np.array_equal(conv.reshape(3, 4), full)


def test_activation_of_an_addition_comes_last() -> None:
    block = Block(arg_types=[tensor_type((3,))] * 2)
    op = nn.AddOp(*block.args)
    op.properties["activation"] = nn.fn("clip", 0.0, 1.0)
    block.add_op(op)
    a, b = np.array([-2, 0.5, 3], np.float32), np.array([1, 0.25, 3], np.float32)
    result = Interpreter().run(function(block, op.result), {"input0": a, "input1": b})
    assert result["output0"].tolist() == [0, 0.75, 1]
