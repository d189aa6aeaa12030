"""One calibrated network, many assignments: each compiles as if it were the only one."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import uqfc
from tests.onnx_models import IMAGE, quantized_perceptron, residual_network, samples
from tests.passes.graphs import same_bits
from uqfc.calibrated import Calibrated, calibrate_model
from uqfc.errors import TargetError, UqfcError
from uqfc.model import CompiledModel
from uqfc.passes.select_bit_width import WEIGHT_DTYPES, Decision, Reason

LAYERS = ("stem", "depthwise", "pointwise", "head")
STRATEGIES = ("int8", "int4", "ternary", "binary")


def calibrated(**options: Any) -> Calibrated:
    arguments: dict[str, Any] = {"calibration_data": samples(IMAGE), "cache": False, **options}
    return calibrate_model(residual_network(), **arguments)


def compiled(**options: Any) -> CompiledModel:
    arguments: dict[str, Any] = {"calibration_data": samples(IMAGE), "cache": False, **options}
    return uqfc.compile(residual_network(), **arguments)


def uniform(dtype: str) -> dict[str, str]:
    return dict.fromkeys(LAYERS, dtype)


@pytest.fixture(scope="module")
def shared() -> Calibrated:
    return calibrated(target="x86-64")


# --- laws -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["x86-64", "edge_device_v2"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_one_type_for_all_layers_is_the_strategy_of_that_name(strategy: str, target: str) -> None:
    expected = compiled(quant_strategy=strategy, target=target)
    actual = calibrated(target=target).compile(uniform(strategy))
    assert actual.info == expected.info
    assert actual.weights == expected.weights
    assert actual.uqr() == expected.uqr()


@settings(max_examples=10)
@given(st.lists(st.fixed_dictionaries({n: st.sampled_from(WEIGHT_DTYPES) for n in LAYERS})))
def test_no_assignment_leaves_a_trace(
    shared: Calibrated, assignments: list[dict[str, str | Decision]]
) -> None:
    before = str(shared.module)
    for widths in assignments:
        alone = calibrated(target="x86-64")
        assert str(shared.quantized(widths)) == str(alone.quantized(widths))
        assert not alone.weights.memo or len(alone.weights.memo) <= len(LAYERS)
    assert str(shared.module) == before


def test_weights_are_quantized_once_for_each_type() -> None:
    network = calibrated()
    first, *_ = network.quantized(uniform("int4")).ops
    memo = dict(network.weights.memo or {})
    assert set(memo) == {(name, "int4") for name in LAYERS}
    network.quantized(uniform("int8"))
    again, *_ = network.quantized(uniform("int4")).ops
    assert first is not again
    assert all((network.weights.memo or {})[key] is value for key, value in memo.items())


def decisions(model: CompiledModel) -> dict[str, tuple[Any, ...]]:
    return {
        la.name: (la.requested, la.chosen, la.reason)
        for la in model.layers
        if la.weight_dtype is not None
    }


def test_the_mixed_strategy_is_the_assignment_of_its_choices(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("uqfc.passes.select_bit_width.SelectBitWidthPass.tolerance", 0.005)
    mixed = compiled(quant_strategy="mixed_int4_int8")
    chosen: dict[str, str | Decision] = {n: d[1] for n, d in decisions(mixed).items()}
    assert mixed.weights == calibrated().compile(chosen).weights
    given_ = compiled(quant_strategy="int8", bit_widths=chosen)
    assert mixed.weights == given_.weights
    with_reasons = {n: Decision(d[0], d[1], Reason(d[2])) for n, d in decisions(mixed).items()}
    actual = calibrated().compile(with_reasons)
    assert decisions(actual) == decisions(mixed)
    assert actual.weights == mixed.weights


# --- bit_widths of uqfc.compile -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("widths", "expected"),
    [
        ({"stem": "int8"}, ["int8", "int4", "int4", "int4"]),
        ({"*wise": "int8", "*": "ternary"}, ["ternary", "int8", "int8", "ternary"]),
        ({"*": "int8", "head": "binary"}, ["int8", "int8", "int8", "int8"]),
        ({"head": "float32", "s*": "binary"}, ["binary", "int4", "int4", "float32"]),
    ],
)
def test_the_first_pattern_counts_and_the_rest_follow_the_strategy(
    widths: Mapping[str, str], expected: list[str]
) -> None:
    model = compiled(quant_strategy="int4", bit_widths=widths, strict=True)
    assert decisions(model) == {
        name: (dtype, dtype, "requested") for name, dtype in zip(LAYERS, expected, strict=True)
    }
    for x in samples(IMAGE, 3, seed=7):
        expected_bits = model.reference({"image": x})["logits"]
        assert same_bits(expected_bits, model.run({"image": x})["logits"])


def test_a_name_with_brackets_is_a_name_first() -> None:
    network = residual_network()
    network.graph.node[0].name = "stem[0]"
    model = uqfc.compile(
        network, calibration_data=samples(IMAGE), bit_widths={"stem[0]": "int4"}, cache=False
    )
    assert decisions(model)["stem[0]"][1] == "int4"


def test_what_the_target_lacks_falls_back() -> None:
    model = compiled(target="edge_device_v2", bit_widths={"stem": "binary"})
    found = decisions(model)
    assert found["stem"] == ("binary", "int8", "unsupported_by_target")
    assert found["head"] == ("int8", "int8", "requested")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bit_widths": {"stm": "int4"}}, "bit_widths: no layer matches 'stm'; nearest: stem"),
        ({"bit_widths": {"x*": "int4"}}, "no layer matches 'x*'; nearest: stem, depthwise"),
        (
            {"bit_widths": {"stem": "int3"}},
            "bit_widths: 'stem': 'int3' is unknown; accepted: int8, fp8_e4m3, fp8_e5m2, int4",
        ),
        ({"bit_widths": {"stem": ["int4"]}}, "bit_widths: 'stem': '['int4']' is unknown"),
        ({"bit_widths": ["int4"]}, "bit_widths: accepted: a mapping"),
        ({"bit_widths": {"*": "int8"}, "quant_strategy": "float32"}, "quantizes nothing; choose"),
    ],
)
def test_widths_that_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UqfcError) as caught:
        compiled(**options)
    assert message in str(caught.value)


def test_a_quantized_model_keeps_its_own_types() -> None:
    with pytest.raises(UqfcError, match="quantized: it keeps its own types"):
        uqfc.compile(quantized_perceptron(), bit_widths={"first": "int8"})
    with pytest.raises(UqfcError, match="quantized already: it keeps its own types"):
        calibrate_model(quantized_perceptron(), calibration_data=samples((2, 6)))


# --- facts and errors -----------------------------------------------------------------------------


def test_facts_of_layers(shared: Calibrated) -> None:
    facts = {f.name: (f.op, f.weight_shape, f.macs, f.elements) for f in shared.layers}
    assert facts == {
        "stem": ("conv2d", (8, 3, 3, 3), 64 * 8 * 27, 8 * 27),
        "depthwise": ("depthwise", (8, 3, 3, 1), 64 * 8 * 9, 8 * 9),
        "pointwise": ("conv2d", (8, 1, 1, 8), 64 * 8 * 8, 64),
        "head": ("linear", (5, 8), 40, 40),
    }
    assert {f.choices for f in shared.layers} == {("int8", "int4", "ternary", "binary")}
    assert {f.choices for f in calibrated(target="edge_device_v2").layers} == {("int8",)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stm": "int8"}, "no layer matches 'stm'; nearest: stem"),
        ({"stem": "int7"}, "'stem': 'int7' is unknown; accepted: int8"),
        ({"stem": None}, "layer 'stem' is missing"),
        (
            {"stem": Decision("int4", "int4", Reason.REQUESTED)},
            "'stem': target edge_device_v2 has no int4; accepted: int8, float32",
        ),
    ],
)
def test_assignments_that_are_refused(change: dict[str, Any], message: str) -> None:
    network = calibrated(target="edge_device_v2")
    widths = {n: d for n, d in {**uniform("int8"), **change}.items() if d is not None}
    with pytest.raises(UqfcError) as caught:
        network.compile(widths)
    assert message in str(caught.value)


def device(folder: Path, kernels: str) -> Path:
    """A table with other kernels than ``x86-64``."""
    shipped = resources.files("uqfc.targets").joinpath("x86-64.toml").read_text()
    path = folder / "device.toml"
    path.write_text(shipped[: shipped.index("[[kernels]]")] + kernels)
    return path


def test_only_scales_that_the_device_has(tmp_path: Path) -> None:
    path = device(
        tmp_path,
        """[[kernels]]
        ops = ["conv2d", "depthwise", "linear"]
        weights = ["int8", "int4"]
        activations = ["uint8"]
        granularity = ["per_tensor"]""",
    )
    with pytest.raises(TargetError, match="conv2d 'stem': no weights with per_channel scales; acc"):
        compiled(target=path)
    model = compiled(target=path, weight_quant={"granularity": "tensor"}, quant_strategy="int4")
    assert set(decisions(model).values()) == {("int4", "int4", "requested")}


def test_an_op_that_the_device_lacks_stays_float(tmp_path: Path) -> None:
    path = device(
        tmp_path,
        """[[kernels]]
        ops = ["conv2d", "linear"]
        weights = ["int8"]
        activations = ["uint8"]""",
    )
    found = decisions(model := compiled(target=path))
    assert found["depthwise"] == ("int8", "float32", "unsupported_by_target")
    assert {found[name] for name in LAYERS if name != "depthwise"} == {
        ("int8", "int8", "requested")
    }
    (x,) = samples(IMAGE, 1, seed=3)
    assert same_bits(model.run({"image": x})["logits"], model.reference({"image": x})["logits"])
    assert calibrated(target=path).layers[1].choices == ()


def test_unknown_targets_are_refused_first() -> None:
    with pytest.raises(TargetError, match="unknown target"):
        calibrate_model("no such file", target="abacus", calibration_data=None)
