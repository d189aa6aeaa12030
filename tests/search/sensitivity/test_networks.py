"""Networks whose constants are replaced have the bits of those that are compiled anew."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.onnx_models import IMAGE, perceptron, residual_network, samples
from uqfc.calibrated import Calibrated, calibrate_model
from uqfc.interpreter import Interpreter
from uqfc.pipeline import integer_passes, run_passes
from uqfc.search.sensitivity import QuantizedNetworks
from uqfc.search.sensitivity.floating import FloatNetworks, float_module, parameters_of
from uqfc.targets import load_target, missing_cpu_features

LAYERS = ("stem", "depthwise", "pointwise", "head")
DTYPES = ("int8", "int4", "ternary", "binary")
INPUTS = [{"image": image} for image in samples(IMAGE, 3, seed=5)]


@pytest.fixture(scope="module")
def calibrated() -> Calibrated:
    return calibrate_model(residual_network(), calibration_data=samples(IMAGE), cache=False)


@pytest.fixture(scope="module")
def networks(calibrated: Calibrated) -> QuantizedNetworks:
    return QuantizedNetworks(calibrated)


@settings(max_examples=5)
@given(bit_widths=st.fixed_dictionaries({n: st.sampled_from(DTYPES) for n in LAYERS}))
def test_every_assignment_has_the_bits_of_its_artifact(
    calibrated: Calibrated, networks: QuantizedNetworks, bit_widths: dict[str, str]
) -> None:
    """One object runs all of them, so that nothing of an earlier one may be left."""
    (outputs,) = networks.run(bit_widths, INPUTS)
    compiled = calibrated.compile(bit_widths)
    for output, inputs in zip(outputs, INPUTS, strict=True):
        assert np.array_equal(output, compiled.run(inputs)["logits"])


def test_kernels_rely_on_no_constant_that_is_replaced() -> None:
    """Those of an artifact do: after a ReLU their addends are stored for that."""
    calibrated = calibrate_model(
        residual_network(activation="Relu"), calibration_data=samples(IMAGE), cache=False
    )
    networks = QuantizedNetworks(calibrated)
    assert networks.shared == DTYPES
    for dtype in DTYPES:
        bit_widths = dict.fromkeys(LAYERS, "int8") | {"depthwise": dtype}
        (outputs,) = networks.run(bit_widths, INPUTS)
        compiled = calibrated.compile(bit_widths)
        for output, inputs in zip(outputs, INPUTS, strict=True):
            assert np.array_equal(output, compiled.run(inputs)["logits"])


def test_what_an_assignment_leaves_out_has_its_widest_type(networks: QuantizedNetworks) -> None:
    networks.run(dict.fromkeys(LAYERS, "binary"), INPUTS)
    left_out = networks.run({"stem": "int4"}, INPUTS)
    named = networks.run(dict.fromkeys(LAYERS, "int8") | {"stem": "int4"}, INPUTS)
    assert np.array_equal(left_out[0], named[0])


@pytest.mark.parametrize("kernels", ["x86-64", "x86-64-v3", "avx512-vnni"])
def test_other_kernels_share_their_code_and_give_the_same_bits(
    calibrated: Calibrated, networks: QuantizedNetworks, kernels: str
) -> None:
    missing = missing_cpu_features(load_target(kernels))
    if missing:
        pytest.skip(f"this machine lacks {', '.join(missing)}")
    others = QuantizedNetworks(calibrated, kernels=kernels)
    bit_widths: dict[str, str] = dict(zip(LAYERS, reversed(DTYPES), strict=True))
    assert others.shared == DTYPES
    assert np.array_equal(others.run(bit_widths, INPUTS)[0], networks.run(bit_widths, INPUTS)[0])


def test_the_code_is_shared_by_all_integer_types(networks: QuantizedNetworks) -> None:
    """Else measuring takes a compilation for each layer and type; the results are the same."""
    assert networks.shared == DTYPES


def test_types_with_other_code_are_compiled_for_each_assignment(
    calibrated: Calibrated, monkeypatch: pytest.MonkeyPatch, networks: QuantizedNetworks
) -> None:
    expected = networks.run({"stem": "ternary", "head": "int4"}, INPUTS)
    alone = QuantizedNetworks(calibrated)
    monkeypatch.delitem(alone.same, "ternary")
    actual = alone.run({"stem": "ternary", "head": "int4"}, INPUTS)
    assert np.array_equal(actual[0], expected[0])


def test_batches_larger_than_one() -> None:
    random = np.random.default_rng(0)
    data = [random.standard_normal((2, 6)).astype(np.float32) for _ in range(4)]
    calibrated = calibrate_model(perceptron(), calibration_data=data, cache=False)
    bit_widths = {layer.name: "ternary" for layer in calibrated.layers}
    (outputs,) = QuantizedNetworks(calibrated).run(bit_widths, [{"x": x} for x in data])
    compiled = calibrated.compile(bit_widths)
    for output, x in zip(outputs, data, strict=True):
        assert np.array_equal(output, compiled.run({"x": x})["y"])


@settings(max_examples=5)
@given(
    changed=st.sets(st.sampled_from(LAYERS)),
    seed=st.integers(0, 2**16),
)
def test_changed_parameters_are_those_of_a_changed_network(
    calibrated: Calibrated, changed: set[str], seed: int
) -> None:
    random = np.random.default_rng(seed)
    networks = FloatNetworks(calibrated)
    parameters = {
        name: own.like(random.standard_normal(own.flat.size).astype(np.float32))
        if name in changed
        else own
        for name, own in networks.parameters.items()
    }
    before = networks.run(INPUTS)
    (outputs,) = networks.run(INPUTS, {name: parameters[name].flat for name in changed})
    module = float_module(calibrated.module, parameters)
    run_passes(module, integer_passes())
    for output, inputs in zip(outputs, INPUTS, strict=True):
        assert np.array_equal(output, Interpreter().run(module, inputs)["logits"])
    assert np.array_equal(networks.run(INPUTS)[0], before[0])


def test_real_values_of_quantized_weights(calibrated: Calibrated) -> None:
    module = calibrated.quantized(dict.fromkeys(LAYERS, "binary"))
    found = parameters_of(module, LAYERS)
    for own in found.values():
        magnitudes = np.abs(own.weight.reshape(len(own.weight), -1))
        assert np.array_equal(magnitudes.max(axis=1), magnitudes.min(axis=1))
