"""Each integer op against real arithmetic: the exact sum in float64, then one rounding.

An op's result may be off by half a step (its rounding), by half a unit of the bias's scale (the
bias is rounded to that), and by the few float32 roundings of an epilogue, each 2**-24 of its terms.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Attribute, SSAValue

from tests.networks import (
    ACTIVATIONS,
    NetworkBuilder,
    awkward_inputs,
    quantized,
    quantized_networks,
    run,
)
from tests.passes.graphs import applied, same_bits
from uqfc.dialects import nn
from uqfc.dialects.qnn import IntegerLayerOp, LookupOp, QAddOp, QAvgPool2dOp, QMulOp
from uqfc.dialects.quant import DcastOp, QcastOp, QuantParams, ScastOp, UniformType, uniform_of
from uqfc.dialects.tensors import Array, shape_of
from uqfc.elementary import UNARY
from uqfc.interpreter import Interpreter, integer_conv2d
from uqfc.numerics import F32, F64
from uqfc.passes.convert_to_float8 import ConvertToFloat8Pass
from uqfc.passes.convert_to_integer import ConvertToIntegerPass
from uqfc.passes.select_bit_width import Reason, decision_of
from uqfc.passes.support.quantizable import LAYERS

ROUNDINGS = 16 * 2.0**-24
"""Relative error of an epilogue: fewer than 16 float32 operations."""
LIPSCHITZ = 1.5
"""No activation of ``ACTIVATIONS`` is steeper."""


@st.composite
def points(draw: st.DrawFn, scales: st.SearchStrategy[float] | None = None) -> QuantParams:
    """Per-tensor u8 or i8 parameters; zero points at both ends, too."""
    storage = draw(st.sampled_from(["u8", "i8"]))
    low = 0 if storage == "u8" else -128
    zero = low + draw(st.one_of(st.sampled_from([0, 128, 255]), st.integers(0, 255)))
    scale = draw(scales or st.floats(2.0**-8, 2.0**3, width=32))
    return QuantParams.of(storage, scale, zero)


class QuantizedBuilder(NetworkBuilder):
    """One op between quantize points."""

    def point(self, x: SSAValue, params: QuantParams) -> SSAValue:
        return self.add(DcastOp(self.add(QcastOp(x, params))))

    def stored(self, q: Array, params: QuantParams) -> SSAValue:
        constant = self.add(nn.ConstantOp(q))
        return self.add(DcastOp(self.add(ScastOp(constant, UniformType(params)))))

    def large_inputs(self) -> dict[str, F32]:
        """Values of which many are clamped."""
        return {
            f"input{i}": self.random.standard_normal(shape_of(a)).astype(np.float32) * 40
            for i, a in enumerate(self.block.args)
        }


def levels(y: Array, params: QuantParams) -> F64:
    """The integers that dequantize to ``y``: division undoes an exact product's one rounding."""
    return np.rint(y.astype(np.float64) / params.scales[0]) + params.zero_points[0]


def check(q: F64, real: F64, params: QuantParams, slack: F64 | float) -> None:
    """``q`` is ``real`` rounded, up to ``slack`` (in steps)."""
    wanted = real / params.scales[0] + params.zero_points[0]
    error = np.abs(q - np.clip(wanted, params.qmin, params.qmax))
    assert (error <= 0.5 + slack + 1e-12).all()


def activated(v: F64, activation: nn.FnAttr | None) -> F64:
    return v if activation is None else UNARY[activation.data.name].f64(v, *activation.data.params)


def converted(module: ModuleOp) -> ModuleOp:
    return applied(module, ConvertToFloat8Pass(), ConvertToIntegerPass())


def real_input(x: Array, params: QuantParams) -> F64:
    q = np.rint(np.clip(x.astype(np.float32) / np.float32(params.scales[0]), -1e6, 1e6))
    q = np.clip(q + params.zero_points[0], params.qmin, params.qmax) - params.zero_points[0]
    return q.astype(np.float64) * params.scales[0]


@given(
    points(),
    points(),
    points(),
    st.sampled_from(ACTIVATIONS),
    st.booleans(),
    st.integers(1, 40),
    st.integers(0, 99),
)
def test_linear(
    x_params: QuantParams,
    residual_params: QuantParams,
    y_params: QuantParams,
    activation: nn.FnAttr | None,
    with_residual: bool,
    k: int,
    seed: int,
) -> None:
    n = 5
    b = QuantizedBuilder([(3, k), (3, n)], seed)
    w_scales = b.random.uniform(2.0**-9, 2.0**-4, n).astype(np.float32)
    w = b.random.integers(-127, 128, (n, k)).astype(np.int8)
    bias = b.random.standard_normal(n).astype(np.float32)
    x, r = b.block.args
    residual = b.point(r, residual_params) if with_residual else None
    weight = b.stored(w, QuantParams.of("i8", w_scales, axis=0))
    layer = nn.LinearOp(
        b.point(x, x_params), weight, b.constant(bias), residual, activation=activation
    )
    module = converted(b.module([b.point(b.layer(layer), y_params)]))
    assert any(isinstance(op, IntegerLayerOp) for op in module.walk())
    inputs = b.large_inputs()
    (y,) = Interpreter().run(module, inputs).values()
    products = real_input(inputs["input0"], x_params) @ (w.astype(np.float64) * w_scales[:, None]).T
    added = real_input(inputs["input1"], residual_params) if with_residual else np.zeros((3, n))
    real = activated(products + bias + added, activation)
    size = np.abs(products) + np.abs(bias) + np.abs(added)
    bias_unit = x_params.scales[0] * w_scales.astype(np.float64) / 2
    slack = LIPSCHITZ * (bias_unit + ROUNDINGS * size) / y_params.scales[0]
    check(levels(y, y_params), real, y_params, slack)


@settings(max_examples=40)
@given(points(), st.sampled_from([1, 4]), st.integers(0, 99))
def test_the_sums_of_a_convolution_are_exact(params: QuantParams, groups: int, seed: int) -> None:
    """Left in float32, a result is the sum times one multiplier."""
    b = QuantizedBuilder([(1, 4, 5, 4)], seed)
    w = b.random.integers(-127, 128, (4, 3, 2, 4 // groups)).astype(np.int8)
    window: dict[str, Any] = {"strides": (1, 2), "padding": (0, 1, 2, 1), "dilations": (1, 1)}
    weight = b.stored(w, QuantParams.of("i8", 2.0**-5))
    x = b.point(b.block.args[0], params)
    module = converted(b.module([b.layer(nn.Conv2dOp(x, weight, groups=groups, **window))]))
    inputs = {"input0": b.random.standard_normal((1, 4, 5, 4)).astype(np.float32) * 100}
    (y,) = Interpreter().run(module, inputs).values()
    q = np.rint(real_input(inputs["input0"], params) / params.scales[0]).astype(np.int32)
    total = integer_conv2d(q, w, **window, groups=groups)
    factor = np.float32(params.scales[0] * 2.0**-5)
    assert (y == total.astype(np.float32) * factor).all()


Build = Callable[[QuantizedBuilder, SSAValue, SSAValue], SSAValue]
Real = Callable[[F64, F64], F64]

ELEMENTWISE: dict[str, tuple[Build, Real, type[object]]] = {
    "add": (lambda b, x, y: b.add(nn.AddOp(x, y)), np.add, QAddOp),
    "sub": (lambda b, x, y: b.add(nn.SubOp(x, y)), np.subtract, QAddOp),
    "mul": (lambda b, x, y: b.add(nn.MulOp(x, y)), np.multiply, QMulOp),
    "mean": (
        lambda b, x, _: b.add(nn.ReduceOp(x, "mean", (1, 2))),
        lambda x, _: x.mean(axis=(1, 2), keepdims=True),
        QAvgPool2dOp,
    ),
    "pool": (
        lambda b, x, _: b.add(nn.AvgPool2dOp(x, (3, 1))),
        lambda x, _: x.mean(axis=1, keepdims=True),
        QAvgPool2dOp,
    ),
    "tanh": (
        lambda b, x, _: b.add(nn.UnaryOp(x, nn.fn("tanh"))),
        lambda x, _: np.tanh(x),
        LookupOp,
    ),
    "concat": (
        lambda b, x, y: b.add(nn.ConcatOp([x, y], 3)),
        lambda x, y: np.concatenate([x, y], axis=3),
        nn.ConcatOp,
    ),
    "slice": (
        lambda b, x, _: b.add(nn.SliceOp(x, (0, 1, 0, 0), (1, 2, 2, 4))),
        lambda x, _: x[:, 1:],
        nn.SliceOp,
    ),
    "pad": (
        lambda b, x, _: b.add(nn.PadOp(x, (0, 1, 0, 0), (0, 0, 1, 0))),
        lambda x, _: np.pad(x, ((0, 0), (1, 0), (0, 1), (0, 0))),
        nn.PadOp,
    ),
}


@settings(max_examples=30)
@pytest.mark.parametrize("name", ELEMENTWISE)
@given(points(), points(), points(), st.integers(0, 99))
def test_other_ops(name: str, p: QuantParams, q: QuantParams, r: QuantParams, seed: int) -> None:
    build, function, kind = ELEMENTWISE[name]
    b = QuantizedBuilder([(1, 3, 2, 4)] * 2, seed)
    x, y = (b.point(a, params) for a, params in zip(b.block.args, (p, q), strict=True))
    module = converted(b.module([b.point(build(b, x, y), r)]))
    assert any(isinstance(op, kind) for op in module.walk())
    inputs = {
        f"input{i}": b.random.standard_normal((1, 3, 2, 4)).astype(np.float32) * 40
        for i in range(2)
    }
    (result,) = Interpreter().run(module, inputs).values()
    reals = real_input(inputs["input0"], p), real_input(inputs["input1"], q)
    product = np.abs(reals[0] * reals[1]).max()
    size = np.abs(reals[0]).max() + np.abs(reals[1]).max() + product
    check(levels(result, r), function(*reals), r, ROUNDINGS * size / r.scales[0])


@settings(max_examples=30)
@given(quantized_networks())
def test_signed_activations_are_unsigned_ones_shifted_by_128(module: ModuleOp) -> None:
    signed = module.clone()
    for op in signed.walk():
        for result in op.results:
            shifted = signed_type(result)
            if shifted is not None:
                result._type = shifted
    signed.verify()
    inputs = awkward_inputs(module)
    expected = Interpreter().run(converted(module), inputs)
    actual = Interpreter().run(converted(signed), inputs)
    assert all(same_bits(expected[name], actual[name]) for name in expected)


def signed_type(value: SSAValue) -> Attribute | None:
    """The i8 type of a u8 activation (per tensor, not a constant's)."""
    if not isinstance(value.owner, QcastOp):
        return None
    p = uniform_of(value)
    if p.float8 is not None:
        return None
    zeros = tuple(z - 128 for z in p.zero_points)
    moved = replace(p, storage="i8", qmin=p.qmin - 128, qmax=p.qmax - 128, zero_points=zeros)
    return QcastOp(value.owner.x, moved).result.type


@settings(max_examples=30)
@given(st.integers(0, 99), st.sampled_from(["channel", "blocks"]))
def test_points_without_kernels_are_emulated_to_the_bit(seed: int, kind: str) -> None:
    b = QuantizedBuilder([(2, 3, 4)], seed)
    count = 3 if kind == "channel" else 2 * 3 * 2
    scales = b.random.uniform(0.01, 2.0, count).astype(np.float32)
    zeros = b.random.integers(0, 256, count).astype(np.int32)
    params = QuantParams.of(
        "u8", scales, zeros, axis=1 if kind == "channel" else 2, block=0 if kind == "channel" else 2
    )
    module = b.module([b.point(b.block.args[0], params)])
    inputs = awkward_inputs(module, seed)
    (expected,) = Interpreter().run(module, inputs).values()
    (actual,) = Interpreter().run(converted(module), inputs).values()
    assert expected.tobytes() == actual.tobytes()


def reason_of(module: ModuleOp) -> list[tuple[str, str]]:
    found = [decision_of(op) for op in converted(module).walk() if isinstance(op, LAYERS)]
    return [(d.chosen, d.reason) for d in found if d is not None]


def test_a_sum_that_could_leave_int32_stays_float() -> None:
    b = NetworkBuilder([(1, 70_000)])
    layer = nn.LinearOp(b.block.args[0], b.constant(np.ones((1, 70_000))))
    assert reason_of(quantized(b.module([b.layer(layer)]))) == [("float32", Reason.WOULD_SATURATE)]


def test_blocked_weights_have_no_kernel() -> None:
    b = QuantizedBuilder([(1, 4)])
    scales = np.array([1, 2, 3, 4], np.float32)
    weight = b.stored(np.ones((2, 4), np.int8), QuantParams.of("i8", scales, axis=1, block=2))
    x = b.point(b.block.args[0], QuantParams.of("u8", 0.5, 3))
    module = b.module([b.layer(nn.LinearOp(x, weight))])
    assert reason_of(module) == [("float32", Reason.NO_KERNEL)]
    inputs = awkward_inputs(module)
    (expected,) = Interpreter().run(module, inputs).values()
    (actual,) = Interpreter().run(converted(module), inputs).values()
    assert expected.tobytes() == actual.tobytes()


@pytest.mark.parametrize("scale", [1e-45, 1e-40, 3e38])
def test_scales_that_would_overflow_a_multiplier_stay_float(scale: float) -> None:
    """Whatever the op: no float32 of an epilogue may be infinite."""
    for name, (build, _, kind) in ELEMENTWISE.items():
        b = QuantizedBuilder([(1, 3, 2, 4)] * 2)
        points_ = [QuantParams.of("u8", s, 7) for s in (3e38, 3e38, scale)]
        x, y = (b.point(a, p) for a, p in zip(b.block.args, points_, strict=False))
        module = b.module([b.point(build(b, x, y), points_[2])])
        result = run(module.clone(), ConvertToIntegerPass())
        if kind in (QAddOp, QMulOp, QAvgPool2dOp) and scale < 1:
            assert not any(isinstance(op, kind) for op in result.walk()), name
        inputs = awkward_inputs(module)
        (expected,) = Interpreter().run(module, inputs).values()
        (actual,) = Interpreter().run(result, inputs).values()
        assert same_bits(expected, actual) or scale > 1, name


# --- movement next to quantize points -------------------------------------------------------------

Move = Callable[[QuantizedBuilder, SSAValue], SSAValue]
MOVES: dict[str, Move] = {
    "reshape": lambda b, x: b.add(nn.ReshapeOp(x, (4, 2, 6))),
    "transpose": lambda b, x: b.add(nn.TransposeOp(x, (0, 3, 1, 2))),
    "slice": lambda b, x: b.add(nn.SliceOp(x, (0, 0, 3, 0), (1, 2, 2, 6), (1, 1, -2, 1))),
    "broadcast": lambda b, x: b.add(nn.BroadcastOp(x, (3, 2, 4, 6))),
    "gather": lambda b, x: b.add(nn.GatherOp(x, b.add(nn.ConstantOp(np.array([1, -1]))), 2)),
    "max_pool": lambda b, x: b.add(nn.MaxPool2dOp(x, (2, 2))),
}
TWICE: dict[str, Move] = {
    "reshape, reshape": lambda b, x: MOVES["reshape"](b, b.add(nn.ReshapeOp(x, (48,)))),
    "transpose, reshape": lambda b, x: MOVES["reshape"](b, MOVES["transpose"](b, x)),
}


def moved_then_multiplied(move: Move, point_after: bool, params: QuantParams) -> ModuleOp:
    """A quantize point, movement, perhaps the same point again, and a linear layer."""
    b = QuantizedBuilder([(1, 2, 4, 6)], 3)
    x = move(b, b.point(b.block.args[0], params))
    x = b.point(x, params) if point_after else x
    w = b.random.integers(-127, 128, (5, shape_of(x)[-1])).astype(np.int8)
    layer = nn.LinearOp(x, b.stored(w, QuantParams.of("i8", 2.0**-5)))
    return b.module([b.layer(layer)])


@pytest.mark.parametrize("name", [*MOVES, *TWICE])
@settings(max_examples=10)
@given(points())
def test_a_layer_takes_moved_integers(name: str, params: QuantParams) -> None:
    """As models do that quantize before a flattening, and not again after it."""
    move = (MOVES | TWICE)[name]
    bare, pointed = (converted(moved_then_multiplied(move, p, params)) for p in (False, True))
    for module in (bare, pointed):
        assert any(isinstance(op, IntegerLayerOp) for op in module.walk())
    for inputs in (awkward_inputs(bare), awkward_inputs(bare, 1)):
        expected, found = (Interpreter().run(m, inputs)["output0"] for m in (pointed, bare))
        assert same_bits(expected, found)


@pytest.mark.parametrize("name", ["reshape", "transpose", *TWICE])
@settings(max_examples=10)
@given(points(), points())
def test_an_op_whose_result_is_moved_before_it_is_quantized_is_integer(
    name: str, x_params: QuantParams, y_params: QuantParams
) -> None:
    """The same bits as with the quantize point before the movement."""

    def network(point_first: bool) -> ModuleOp:
        b = QuantizedBuilder([(1, 5, 7, 6)])
        x = b.point(b.block.args[0], x_params)
        mean = b.add(nn.AvgPool2dOp(x, (2, 4), strides=(2, 1), padding=(0, 0, 0, 0)))
        move = (MOVES | TWICE)[name]
        if point_first:
            return b.module([move(b, b.point(mean, y_params))])
        return b.module([b.point(move(b, mean), y_params)])

    late, early = (converted(network(first)) for first in (False, True))
    inputs = awkward_inputs(late)
    expected, found = (Interpreter().run(m, inputs)["output0"] for m in (early, late))
    assert same_bits(expected, found)


def test_a_mean_that_is_flattened_before_it_is_quantized_is_integer() -> None:
    b = QuantizedBuilder([(1, 5, 7, 6)])
    params = QuantParams.of("u8", 0.05, 100)
    mean = b.add(nn.ReduceOp(b.point(b.block.args[0], params), "mean", (1, 2)))
    module = converted(b.module([b.point(b.add(nn.ReshapeOp(mean, (1, 6))), params)]))
    assert any(isinstance(op, QAvgPool2dOp) for op in module.walk())
    assert not any(isinstance(op, nn.ReduceOp) for op in module.walk())


def test_a_padded_maximum_is_not_taken_of_integers() -> None:
    """A window with nothing inside gives -inf, for which bytes have no value."""
    b = QuantizedBuilder([(1, 2, 2, 4)])
    x = b.point(b.block.args[0], QuantParams.of("u8", 0.05, 100))
    pooled = b.add(nn.MaxPool2dOp(x, (2, 2), padding=(2, 2, 0, 0)))
    weight = b.stored(np.eye(4, dtype=np.int8), QuantParams.of("i8", 0.5))
    module = converted(b.module([b.layer(nn.LinearOp(pooled, weight))]))
    assert not any(isinstance(op, IntegerLayerOp) for op in module.walk())
