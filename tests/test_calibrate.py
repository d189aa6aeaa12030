from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xdsl.dialects.builtin import FloatAttr, ModuleOp

from tests.networks import NetworkBuilder, named, networks, with_observers
from tests.passes.graphs import random_inputs
from uqfc.calibrate import annotate_sensitivity, calibrate, name_layers, patches
from uqfc.calibration import CalibrationMethod
from uqfc.dialects import nn
from uqfc.dialects.quant import ObserveOp
from uqfc.dialects.tensors import Array, shape_of
from uqfc.errors import CalibrationError
from uqfc.interpreter import Interpreter
from uqfc.passes.fold_calibration import range_of
from uqfc.passes.select_bit_width import SENSITIVITY
from uqfc.passes.support.quantizable import LAYERS


def observers(module: ModuleOp) -> list[ObserveOp]:
    return [op for op in module.walk() if isinstance(op, ObserveOp)]


def data_for(module: ModuleOp, count: int = 3) -> list[Mapping[str, Array]]:
    return [random_inputs(module, seed) for seed in range(count)]


@settings(max_examples=25)
@given(networks(), st.sampled_from(list(CalibrationMethod)))
def test_every_point_gets_a_range_that_it_saw(module: ModuleOp, method: str) -> None:
    """Any method's range, zero included, lies within the extremes of the point's values."""
    observed = with_observers(module)
    data = data_for(observed)
    extremes: dict[str, list[float]] = {}

    def see(op: object, results: object) -> None:
        if isinstance(op, ObserveOp):
            x = np.asarray(results)
            ends = extremes.setdefault(op.point.data, [0.0, 0.0])
            ends[:] = min(ends[0], float(x.min())), max(ends[1], float(x.max()))

    for inputs in data:
        Interpreter(fast_float=True, observe=see).run(observed, inputs)
    assert calibrate(observed, data, method, with_statistics=False) == {}
    for op in observers(observed):
        bounds = range_of(op)
        assert bounds is not None
        low, high = extremes[op.point.data]
        assert low <= min(bounds[0], 0.0) <= max(bounds[1], 0.0) <= high
        if method == CalibrationMethod.MINMAX and "tied" not in op.attributes:
            assert bounds[0] >= low
            assert bounds[1] <= high


@settings(max_examples=15)
@given(networks())
def test_statistics_are_of_the_patches_that_layers_multiply(module: ModuleOp) -> None:
    observed = with_observers(module)
    name_layers(observed)
    inputs = random_inputs(observed)
    seen: dict[str, Array] = {}

    def see(op: object, results: list[Array]) -> None:
        if isinstance(op, ObserveOp):
            for use in op.result.uses:
                layer = use.operation
                if isinstance(layer, LAYERS) and use.index == 0:
                    seen[layer.layer] = patches(layer, results[0])

    Interpreter(fast_float=True, observe=see).run(observed, inputs)  # pyright: ignore[reportArgumentType]
    statistics = calibrate(observed, [inputs], "minmax", with_statistics=True)
    assert set(statistics) == set(seen)
    for name, rows in seen.items():
        wide = rows.astype(np.float64)
        means = wide.mean(axis=0)
        assert statistics[name].gram.mean.shape == means.shape
        # Sums of up to 200 float64 terms: 200 roundings of 2**-53.
        slack = 200 * 2.0**-53 * np.abs(wide).mean(axis=0)
        assert (np.abs(statistics[name].gram.mean - means) <= slack).all()


def test_patches_are_in_the_order_of_the_weights() -> None:
    """Their product with the weights is the layer's result, at the places that were picked."""
    b = NetworkBuilder([(1, 3, 3, 4)], 2)
    weight = b.weights("plain", 6, 2, 2, 2)
    layer = nn.Conv2dOp(b.block.args[0], weight, groups=2)
    module = b.module([b.layer(layer)])
    inputs = random_inputs(module)
    (y,) = Interpreter().run(module, inputs).values()
    rows = patches(layer, inputs["input0"])
    assert rows.shape == (4, 2, 8)
    constant = weight.owner
    assert isinstance(constant, nn.ConstantOp)
    matrix = constant.array.reshape(2, 3, 8).astype(np.float64)
    expected = np.einsum("pgk,gok->pgo", rows.astype(np.float64), matrix).reshape(4, 6)
    # The float32 sums of 8 products in the result: 8 + 8 roundings of 2**-24 of their size.
    size = np.einsum("pgk,gok->pgo", np.abs(rows), np.abs(matrix)).reshape(4, 6)
    assert (np.abs(y.reshape(4, 6) - expected) <= 16 * 2.0**-24 * size).all()


@settings(max_examples=15)
@given(networks())
def test_names_are_unique_and_stay(module: ModuleOp) -> None:
    layers = [op for op in module.walk() if isinstance(op, LAYERS)]
    for i, layer in enumerate(layers):
        nn.with_layer(layer, ["", "same", f"own{i}"][i % 3])
    before = [layer.layer for layer in layers]
    name_layers(module)
    after = [layer.layer for layer in layers]
    assert len(set(after)) == len(after)
    assert all(after)
    for i, (old, new) in enumerate(zip(before, after, strict=True)):
        if old and old not in before[:i]:
            assert new == old
    name_layers(module)
    assert [layer.layer for layer in layers] == after


def test_no_samples() -> None:
    b = NetworkBuilder([(1, 4)])
    module = with_observers(named(b.module([b.linear(b.block.args[0], 3)])))
    with pytest.raises(CalibrationError, match="no samples"):
        calibrate(module, [], "minmax", with_statistics=False)


def test_progress_is_told_after_every_sample() -> None:
    b = NetworkBuilder([(1, 4)])
    module = with_observers(named(b.module([b.linear(b.block.args[0], 3)])))
    told: list[tuple[str, int]] = []
    calibrate(
        module,
        data_for(module),
        "minmax",
        with_statistics=False,
        progress=lambda stage, done: told.append((stage, done)),
    )
    assert told == [("calibrate", 1), ("calibrate", 2), ("calibrate", 3)]


@settings(max_examples=15)
@given(networks())
def test_sensitivity_is_a_share(module: ModuleOp) -> None:
    """The best int4 weights lose no more than weights of zero, which lose everything."""
    observed = with_observers(module)
    name_layers(observed)
    statistics = calibrate(observed, data_for(observed), "minmax", with_statistics=True)
    annotate_sensitivity(observed, statistics)
    for layer in [op for op in observed.walk() if isinstance(op, LAYERS)]:
        share = layer.attributes[SENSITIVITY]
        assert isinstance(share, FloatAttr)
        assert share.value.data >= 0
        assert np.isfinite(share.value.data)


def test_weights_that_int4_holds_lose_nothing() -> None:
    b = NetworkBuilder([(1, 16)])
    weight = b.constant(np.tile(np.arange(16.0), (3, 1)))
    module = with_observers(named(b.module([b.layer(nn.LinearOp(b.block.args[0], weight))])))
    statistics = calibrate(module, data_for(module), "minmax", with_statistics=True)
    annotate_sensitivity(module, statistics)
    (layer,) = [op for op in module.walk() if isinstance(op, LAYERS)]
    assert shape_of(layer.weight) == (3, 16)
    share = layer.attributes[SENSITIVITY]
    assert isinstance(share, FloatAttr)
    assert share.value.data == 0
