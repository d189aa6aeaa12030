"""What becomes a layer of 8-bit floats, what stays float32, and that codes move like values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation, SSAValue

from tests.networks import STYLES, NetworkBuilder, named, networks, quantized, run
from tests.passes.graphs import random_inputs, same_bits
from uqfc import float8
from uqfc.dialects import nn, qnn
from uqfc.dialects.quant import DcastOp, QcastOp, QuantParams, ScastOp, UniformType
from uqfc.dialects.quant.decisions import decision_of
from uqfc.dialects.tensors import f8_e4m3, f8_e5m2, shape_of
from uqfc.float8 import E4M3, E5M2, FORMATS
from uqfc.interpreter import Interpreter
from uqfc.passes.convert_to_float8 import ConvertToFloat8Pass
from uqfc.pipeline import integer_passes

PER_CHANNEL = QuantParams.of("f8E4M3FN", np.array([0.5, 0.25, 2.0], np.float32), axis=1)


def ops(module: ModuleOp, *kinds: type[Operation]) -> list[Any]:
    return [op for op in module.walk() if isinstance(op, kinds)]


def cast(b: NetworkBuilder, x: SSAValue, params: QuantParams) -> SSAValue:
    return b.add(DcastOp(b.add(QcastOp(x, params))))


def weights(b: NetworkBuilder, form: float8.Float8, *shape: int) -> SSAValue:
    """Codes with a scale for each output channel."""
    codes = float8.encode(b.random.standard_normal(shape).astype(np.float32), form)
    params = QuantParams.of(form.name, np.full(shape[0], 0.5, np.float32), axis=0)
    element = f8_e4m3 if form is E4M3 else f8_e5m2
    constant = b.add(nn.ConstantOp(codes, element))
    return b.add(DcastOp(b.add(ScastOp(constant, UniformType(params)))))


def converted(b: NetworkBuilder, *outputs: SSAValue) -> ModuleOp:
    return run(named(b.module(outputs)), ConvertToFloat8Pass())


@settings(max_examples=25)
@given(networks(), st.sampled_from(["fp8_e4m3", "fp8_e5m2"]), st.sampled_from(STYLES))
def test_every_layer_becomes_one_and_no_quantized_type_is_left(
    module: ModuleOp, strategy: str, style: Any
) -> None:
    network = run(quantized(module, strategy, [style]), *integer_passes())
    assert not ops(network, QcastOp, DcastOp, ScastOp, qnn.QuantizeOp, qnn.IntegerLayerOp)
    form = next(f for f in FORMATS.values() if f.dtype == strategy)
    for layer in ops(network, qnn.Float8LayerOp):
        decision = decision_of(layer)
        assert decision is not None
        assert decision.chosen == strategy
        assert qnn.format_of(layer.x) is E4M3
        assert qnn.format_of(layer.weight) is form


@pytest.mark.parametrize("x_form", FORMATS)
@pytest.mark.parametrize("w_form", FORMATS)
def test_scales_leave_the_sum(x_form: str, w_form: str) -> None:
    """With scales that are powers of two the layer is the float graph to the bit, in any order
    of sums that are exact: those of small whole numbers."""
    b = NetworkBuilder([(3, 7)])
    x = cast(b, b.block.args[0], QuantParams.of(x_form, 0.25))
    whole = np.asarray(b.random.integers(-2, 3, (5, 7)), np.float32)
    element = f8_e4m3 if w_form == E4M3.name else f8_e5m2
    params = QuantParams.of(w_form, np.array([0.5, 1, 2, 4, 8], np.float32), axis=0)
    constant = b.add(nn.ConstantOp(float8.encode(whole, FORMATS[w_form]), element))
    weight = b.add(DcastOp(b.add(ScastOp(constant, UniformType(params)))))
    module = named(b.module([b.add(nn.LinearOp(x, weight))]))
    inputs = {"input0": b.random.integers(-3, 4, (3, 7)).astype(np.float32)}
    expected = Interpreter().run(module.clone(), inputs)
    after = run(module, ConvertToFloat8Pass())
    assert len(ops(after, qnn.Float8LinearOp)) == 1
    actual = Interpreter().run(after, inputs)
    assert all(same_bits(expected[name], actual[name]) for name in expected)


def test_a_result_that_only_a_cast_reads_is_codes() -> None:
    b = NetworkBuilder([(3, 7)])
    x = cast(b, b.block.args[0], QuantParams.of("f8E4M3FN", 0.25))
    y = b.add(nn.LinearOp(x, weights(b, E4M3, 5, 7)))
    z = cast(b, y, QuantParams.of("f8E5M2", 0.5))
    module = converted(b, b.add(nn.LinearOp(z, weights(b, E5M2, 2, 5))))
    first, second = ops(module, qnn.Float8LinearOp)
    assert first.scale is not None
    assert second.scale is None
    assert second.x is first.result


def test_a_result_that_others_read_stays_float32() -> None:
    b = NetworkBuilder([(3, 7)])
    x = cast(b, b.block.args[0], QuantParams.of("f8E4M3FN", 0.25))
    y = b.add(nn.LinearOp(x, weights(b, E4M3, 5, 7)))
    module = converted(b, y, cast(b, y, QuantParams.of("f8E4M3FN", 0.5)))
    (layer,) = ops(module, qnn.Float8LinearOp)
    assert layer.scale is None


@settings(max_examples=25)
@given(st.floats(2.0**-90, 2.0**90, width=32), st.sampled_from(sorted(FORMATS)))
def test_codes_move_where_their_values_did(scale: float, form: str) -> None:
    params = QuantParams.of(form, scale)
    b = NetworkBuilder([(2, 3, 4)], seed=int(scale) % 100)
    x = cast(b, b.block.args[0], params)
    moved = b.add(nn.ReshapeOp(b.add(nn.TransposeOp(x, (0, 2, 1))), (6, 4)))
    module = named(b.module([cast(b, moved, params)]))
    values = random_inputs(module)["input0"] * np.float32(scale)
    expected = Interpreter().run(module.clone(), {"input0": values})
    after = run(module, ConvertToFloat8Pass())
    assert len(ops(after, qnn.Float8QuantizeOp)) == 1
    actual = Interpreter().run(after, {"input0": values})
    assert all(same_bits(expected[name], actual[name]) for name in expected)


def test_max_pooling_compares_values() -> None:
    """Codes are sign and magnitude: the largest code is not the largest value."""
    b = NetworkBuilder([(1, 4, 4, 3)])
    params = QuantParams.of("f8E4M3FN", 0.5)
    pooled = b.add(nn.MaxPool2dOp(cast(b, b.block.args[0], params), (2, 2)))
    module = named(b.module([cast(b, pooled, params)]))
    inputs = random_inputs(module)
    expected = Interpreter().run(module.clone(), inputs)
    after = run(module, ConvertToFloat8Pass())
    (pool,) = ops(after, nn.MaxPool2dOp)
    assert isinstance(pool.x.owner, qnn.Float8DequantizeOp)
    actual = Interpreter().run(after, inputs)
    assert all(same_bits(expected[name], actual[name]) for name in expected)


def test_scales_per_channel_of_activations() -> None:
    b = NetworkBuilder([(2, 3)])
    module = named(b.module([cast(b, b.block.args[0], PER_CHANNEL)]))
    inputs = random_inputs(module)
    expected = Interpreter().run(module.clone(), inputs)
    after = run(module, ConvertToFloat8Pass())
    assert not ops(after, QcastOp, DcastOp)
    actual = Interpreter().run(after, inputs)
    assert all(same_bits(expected[name], actual[name]) for name in expected)


@pytest.mark.parametrize("kind", ["float input", "scales per channel", "unusable scales"])
def test_what_stays_float32_says_so(kind: str) -> None:
    b = NetworkBuilder([(2, 3)])
    params = {
        "scales per channel": PER_CHANNEL,
        "unusable scales": QuantParams.of("f8E4M3FN", 2.0**100),
    }
    x = b.block.args[0]
    x = x if kind == "float input" else cast(b, x, params[kind])
    module = named(b.module([b.add(nn.LinearOp(x, weights(b, E4M3, 4, 3)))]))
    inputs = random_inputs(module)
    expected = Interpreter().run(module.clone(), inputs)
    network = run(module, *integer_passes())
    (layer,) = ops(network, nn.LinearOp)
    decision = decision_of(layer)
    assert decision is not None
    assert (decision.requested, decision.chosen, decision.reason) == (
        "fp8_e4m3",
        "float32",
        "no_kernel",
    )
    actual = Interpreter().run(network, inputs)
    assert all(same_bits(expected[name], actual[name]) for name in expected)
    assert shape_of(layer) == (2, 4)
