from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xdsl.dialects.builtin import ModuleOp

from tests.networks import STRATEGIES, NetworkBuilder, calibrated, networks, quantized, run
from tests.passes.graphs import applied
from uqfc.calibration import GramAccumulator
from uqfc.dialects import nn
from uqfc.dialects.quant import DcastOp, QuantParams, ScastOp, uniform_of
from uqfc.dialects.tensors import Array
from uqfc.numerics import dequantize
from uqfc.passes.convert_to_integer import ConvertToIntegerPass
from uqfc.passes.fold_calibration import FoldCalibrationPass
from uqfc.passes.quantize_weights import LayerStatistics, QuantizeWeightsPass
from uqfc.passes.select_bit_width import Reason, SelectBitWidthPass, decision_of
from uqfc.passes.support.quantizable import LAYERS

Layer = nn.Conv2dOp | nn.LinearOp


def layers_of(module: ModuleOp) -> list[Layer]:
    return [op for op in module.walk() if isinstance(op, LAYERS)]


def constant_of(layer: Layer, index: int) -> Array:
    owner = layer.operands[index].owner
    assert isinstance(owner, nn.ConstantOp)
    return owner.array


def stored(layer: Layer) -> tuple[Array, QuantParams]:
    """Integers of a layer's weights and their parameters."""
    dcast = layer.weight.owner
    assert isinstance(dcast, DcastOp)
    scast = dcast.x.owner
    assert isinstance(scast, ScastOp)
    constant = scast.x.owner
    assert isinstance(constant, nn.ConstantOp)
    return constant.array.astype(np.int32), uniform_of(scast.result)


def before_and_after(module: ModuleOp, strategy: str) -> list[tuple[Layer, Layer]]:
    return list(zip(layers_of(module), layers_of(quantized(module, strategy)), strict=True))


@settings(max_examples=25)
@given(networks())
def test_int8_weights_move_by_half_a_step_at_most(module: ModuleOp) -> None:
    """Two float32 roundings, of the quotient and of the product, add 2**-23 of 127 steps each."""
    for old, new in before_and_after(module, "int8"):
        weight = constant_of(old, 1)
        q, params = stored(new)
        scale, zero = params.broadcast(weight.shape)
        assert not zero.any()
        assert (params.storage, params.qmin, params.qmax, params.axis) == ("i8", -127, 127, 0)
        assert np.abs(q).max(initial=0) <= 127
        error = np.abs(dequantize(q, scale, zero).astype(np.float64) - weight)
        assert (error <= scale * (0.5 + 2 * 127 / 2**23)).all()


@settings(max_examples=25)
@given(networks())
def test_int4_weights_are_asymmetric_per_channel(module: ModuleOp) -> None:
    for old, new in before_and_after(module, "int4"):
        weight = constant_of(old, 1)
        q, params = stored(new)
        assert (params.storage, params.qmin, params.qmax, params.axis) == ("u4", 0, 15, 0)
        assert len(params.scales) == len(weight)
        assert q.min() >= 0
        assert q.max() <= 15
        # Weights of zero, of which there are whole channels, stay zero.
        scale, zero = params.broadcast(weight.shape)
        assert (dequantize(q, scale, zero)[weight == 0] == 0).all()


@settings(max_examples=25)
@given(networks(), st.sampled_from(["ternary", "binary"]))
def test_ternary_and_binary_weights_have_their_levels_per_channel(
    module: ModuleOp, strategy: str
) -> None:
    for old, new in before_and_after(module, strategy):
        q, params = stored(new)
        assert (params.storage, params.qmin, params.qmax, params.axis) == ("i2", -1, 1, 0)
        assert not any(params.zero_points)
        weight = constant_of(old, 1)
        assert set(np.unique(q)) <= ({-1, 0, 1} if strategy == "ternary" else {-1, 1})
        assert (q[weight < 0] <= 0).all()
        assert (q[weight > 0] >= 0).all()


@settings(max_examples=25)
@given(networks(), st.sampled_from(STRATEGIES))
def test_names_decisions_and_biases_stay(module: ModuleOp, strategy: str) -> None:
    for old, new in before_and_after(module, strategy):
        assert new.layer == old.layer
        decision = decision_of(new)
        assert decision is not None
        given_by = {"i8": ("int8",), "u4": ("int4",), "i2": ("ternary", "binary")}
        given_by |= {"f8E4M3FN": ("fp8_e4m3",), "f8E5M2": ("fp8_e5m2",)}
        assert decision.chosen in given_by[stored(new)[1].storage]
        assert (new.bias is None) == (old.bias is None)
        if old.bias is not None:
            assert constant_of(old, 2).tobytes() == constant_of(new, 2).tobytes()


@settings(max_examples=50)
@given(
    st.integers(0, 99),
    st.sampled_from([0.0, 1e-30, 1e-3, 1.0, 1e6]),
    st.sampled_from([0.0, 1e-20, 1.0, 1e6, 1e20]),
    st.sampled_from(["int8", "int4", "ternary", "binary"]),
)
def test_every_bias_fits_the_accumulator(
    seed: int, weight: float, bias: float, strategy: str
) -> None:
    """However small the weights of its channel are."""
    b = NetworkBuilder([(1, 4)], seed)
    w = b.constant(b.random.standard_normal((3, 4)) * weight)
    layer = nn.LinearOp(b.block.args[0], w, b.constant(b.random.standard_normal(3) * bias))
    module = quantized(b.module([b.layer(layer)]), strategy)
    converted = run(module, ConvertToIntegerPass())
    found = [decision_of(op) for op in converted.walk() if op.name.endswith(".linear")]
    assert [d is not None and d.reason for d in found] == [Reason.REQUESTED]


def statistics_of(x: Array, layer: str) -> dict[str, LayerStatistics]:
    gram = GramAccumulator(x.shape[1], 1)
    gram.update(x[:, None, :])
    return {layer: LayerStatistics(gram)}


@settings(max_examples=20)
@pytest.mark.parametrize("strategy", ["int4", "ternary", "binary"])
@given(st.integers(0, 99), st.integers(2, 20), st.integers(1, 4))
def test_statistics_never_make_the_output_worse(strategy: str, seed: int, k: int, n: int) -> None:
    """The squared error of the layer's output on the data that the statistics are of."""
    b = NetworkBuilder([(1, k)], seed)
    module = b.module([b.linear(b.block.args[0], n)])
    x = b.random.standard_normal((40, k)) @ b.random.standard_normal((k, k))
    x = x.astype(np.float32)
    passes = SelectBitWidthPass(strategy, "x86-64"), FoldCalibrationPass()
    ready = run(calibrated(module), *passes)
    (original,) = layers_of(module)
    weight, bias = (constant_of(original, i).astype(np.float64) for i in (1, 2))
    errors: list[float] = []
    for statistics in ({}, statistics_of(x, "layer1")):
        (layer,) = layers_of(applied(ready, QuantizeWeightsPass(statistics=statistics)))
        q, params = stored(layer)
        restored = dequantize(q, *params.broadcast(q.shape)).astype(np.float64)
        shift = constant_of(layer, 2).astype(np.float64) - bias
        errors.append(float(np.square(x @ (restored - weight).T + shift).sum()))
    # The bias is stored as float32: 2**-24 of it, for each of 40 rows and n outputs.
    slack = 40 * n * (np.abs(bias).max() * 2.0**-22) ** 2
    assert errors[1] <= errors[0] * (1 + 1e-9) + slack


def test_a_layer_without_a_bias_gets_the_correction_as_its_bias() -> None:
    b = NetworkBuilder([(1, 6)])
    layer = b.layer(nn.LinearOp(b.block.args[0], b.weights("plain", 3, 6)))
    ready = run(
        calibrated(b.module([layer])), SelectBitWidthPass("int4", "x86-64"), FoldCalibrationPass()
    )
    x = b.random.standard_normal((20, 6)).astype(np.float32) + 1
    result = applied(ready, QuantizeWeightsPass(statistics=statistics_of(x, "layer1")))
    assert constant_of(layers_of(result)[0], 2).shape == (3,)


@pytest.mark.parametrize("strategy", ["int8", "int4"])
def test_layers_without_a_decision_are_left_alone(strategy: str) -> None:
    b = NetworkBuilder([(2, 4), (3, 4)])
    x, weight = b.block.args
    module = b.module([b.layer(nn.LinearOp(x, weight))])
    (layer,) = layers_of(quantized(module, strategy))
    assert layer.weight is layer.parent_block().args[1]  # pyright: ignore[reportOptionalMemberAccess]
