"""``uqfc.compile``: what it accepts, what it refuses, and what it says that it did."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import uqfc
import uqfc_runtime
from tests.codegen.toy import needs_linker
from tests.onnx_models import (
    IMAGE,
    perceptron,
    quantized_perceptron,
    residual_network,
    samples,
)
from tests.passes.graphs import same_bits
from uqfc.codegen.isa import known
from uqfc.errors import (
    CalibrationError,
    FallbackError,
    InputError,
    ModelError,
    TargetError,
    UqfcError,
)
from uqfc.model import CompiledModel
from uqfc.options import QuantStrategy
from uqfc.targets import load_target, missing_cpu_features
from uqfc_runtime.artifact import ELF_MACHINES

TARGETS = ("avx512-vnni", "x86-64-v3", "x86-64", "edge_device_v2", "kirkwood_npu")
LAYERS = ("stem", "depthwise", "pointwise", "head")


def compiled(strategy: str = "int8", **options: Any) -> CompiledModel:
    data = None if strategy == "float32" else samples(IMAGE)
    arguments: dict[str, Any] = {"quant_strategy": strategy, "calibration_data": data, **options}
    return uqfc.compile(residual_network(), **arguments)


def layers(model: CompiledModel) -> dict[str, Any]:
    return {layer.name: layer for layer in model.layers if layer.weight_dtype is not None}


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"quant_strategy": "int3"},
            UqfcError,
            "quant_strategy: 'int3' is unknown; accepted: float32, int8, int4, mixed_int4_int8",
        ),
        (
            {"calibration_method": "guess"},
            UqfcError,
            "calibration_method: 'guess' is unknown; accepted: ",
        ),
        ({"target": "avx513-vnni"}, TargetError, "did you mean avx512-vnni"),
        ({"target": Path("missing.toml")}, TargetError, "missing.toml"),
        ({"calibration_data": None}, CalibrationError, "int8 needs calibration data"),
        ({"calibration_data": []}, CalibrationError, "not one batch"),
        ({"calibration_data": 5}, CalibrationError, "calibration data is a int; accepted"),
        (
            {"calibration_data": samples((1, 3, 8, 9))},
            CalibrationError,
            "input 'image' has shape [1, 3, 8, 9]; accepted: [1, 3, 8, 8]",
        ),
        (
            {"calibration_data": [{"picture": samples(IMAGE)[0]}]},
            CalibrationError,
            "picture",
        ),
        ({"calibration_samples": 0}, CalibrationError, "no samples"),
        ({"weight_quant": {"bits": 3}}, UqfcError, "weight_quant: unknown bits; accepted: gran"),
        ({"weight_quant": {"granularity": "row"}}, UqfcError, "'per_row'; accepted: per_channel"),
        (
            {"quant_strategy": "ternary", "weight_quant": {"symmetric": False}},
            UqfcError,
            "layer 'stem': ternary weights are symmetric",
        ),
        ({"weight_quant": {"ranges": "max"}}, UqfcError, "'max'; accepted: minmax, mse"),
        ({"pass_pipeline": "no-such-pass"}, UqfcError, "no-such-pass"),
        ({"shapes": {"picture": IMAGE}}, ModelError, "picture"),
    ],
)
def test_arguments_that_are_refused(
    options: dict[str, Any], error: type[UqfcError], message: str
) -> None:
    with pytest.raises(error) as caught:
        compiled(**options)
    assert message in str(caught.value)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_calibration_data_that_is_not_finite_is_named(value: float) -> None:
    data = samples(IMAGE)
    data[2][0, 1, 2, 3] = value
    with pytest.raises(CalibrationError, match=r"tensor 'image': .* in sample 2 \(1 of 192"):
        compiled(calibration_data=data)


def test_a_layer_that_overflows_in_calibration_is_named() -> None:
    data = [x * np.float32(1e38) for x in samples((2, 6))]
    with pytest.raises(CalibrationError, match=r"tensor 'first': -?(inf|nan) .* in sample \d"):
        uqfc.compile(perceptron(), calibration_data=data)


@pytest.mark.parametrize("constant", ["weight", "bias"])
def test_constants_that_are_not_finite_are_named(constant: str) -> None:
    shape = (3, 4) if constant == "weight" else (3,)
    values = np.full(shape, np.nan, np.float32)
    model = perceptron(values) if constant == "weight" else perceptron(bias=values)
    with pytest.raises(CalibrationError, match="layer 'second': weights or bias"):
        uqfc.compile(model, calibration_data=samples((2, 6)))


def test_inputs_of_a_compiled_model_are_checked() -> None:
    model = compiled()
    with pytest.raises(uqfc_runtime.InputError, match="missing input 'image'"):
        model.run({})
    with pytest.raises(uqfc_runtime.InputError, match="expected float32"):
        model.run({"image": np.zeros((1, 3, 8, 9), np.float32)})
    with pytest.raises(InputError, match="input 'image' is missing"):
        model.reference({})


def test_only_known_kinds_of_files_are_written(tmp_path: Path) -> None:
    with pytest.raises(UqfcError, match=r"unknown suffix '\.exe'; accepted: \.so, \.o"):
        compiled("float32").save(tmp_path / "model.exe")
    assert list(tmp_path.iterdir()) == []


# --- decisions ------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["int8", "int4", "ternary", "binary"])
def test_layers_say_what_they_got(strategy: str) -> None:
    found = layers(compiled(strategy, strict=True))
    assert tuple(found) == LAYERS
    for layer in found.values():
        assert (layer.requested, layer.chosen, layer.reason) == (strategy, strategy, "requested")
        assert layer.activation_dtype == "uint8"
        assert layer.kernel


def test_float_layers_were_requested_to_be_float() -> None:
    model = compiled("float32", strict=True)
    found = layers(model)
    assert tuple(found) == LAYERS
    assert {(la.requested, la.chosen, la.reason) for la in found.values()} == {
        ("float32", "float32", "requested")
    }
    assert all(layer.activation_dtype == "float32" for layer in model.layers)


@pytest.mark.parametrize("strategy", ["int4", "ternary", "binary"])
def test_a_target_without_narrow_weights_gets_int8_and_says_so(strategy: str) -> None:
    found = layers(compiled(strategy, target="edge_device_v2"))
    assert {(la.requested, la.chosen, la.reason) for la in found.values()} == {
        (strategy, "int8", "unsupported_by_target")
    }


def test_strict_lists_every_fallback() -> None:
    with pytest.raises(FallbackError, match=r"target edge_device_v2: 4 fallback\(s\)") as caught:
        compiled("int4", target="edge_device_v2", strict=True)
    for layer in LAYERS:
        line = f"  {layer}: requested int4, got int8 (unsupported_by_target)"
        assert line in str(caught.value).splitlines()


def test_mixed_keeps_int8_for_sensitive_layers() -> None:
    """A layer whose weights int4 cannot hold: one in each channel is far larger than the rest."""
    weight = np.array([[100, 1, -1, 0.5]] * 3, np.float32)
    weight += np.random.default_rng(0).standard_normal(weight.shape).astype(np.float32) / 4
    model = uqfc.compile(
        perceptron(weight), quant_strategy="mixed_int4_int8", calibration_data=samples((2, 6), 16)
    )
    found = layers(model)
    assert {layer.reason for layer in found.values()} <= {"requested", "sensitive"}
    for layer in found.values():
        assert (layer.chosen == "int8") == (layer.reason == "sensitive")


def test_layers_with_one_name_get_names_of_their_own() -> None:
    model = uqfc.compile(perceptron(names=("fc", "fc")), calibration_data=samples((2, 6)))
    names = list(layers(model))
    assert len(names) == 2
    assert names[0] == "fc"
    assert names[1].startswith("fc")


@pytest.mark.parametrize("granularity", ["channel", "tensor"])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("ranges", ["minmax", "mse"])
@pytest.mark.parametrize("strategy", ["int8", "int4"])
def test_options_of_weights(granularity: str, symmetric: bool, ranges: str, strategy: str) -> None:
    options = {"granularity": granularity, "symmetric": symmetric, "ranges": ranges}
    model = uqfc.compile(
        perceptron(),
        quant_strategy=strategy,
        calibration_data=samples((2, 6)),
        weight_quant=options,
        strict=True,
    )
    (x,) = samples((2, 6), 1, seed=5)
    assert same_bits(model.run({"x": x})["y"], model.reference({"x": x})["y"])


# --- results --------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("strategy", [*QuantStrategy])
def test_the_compiled_model_gives_the_bits_of_the_reference(strategy: str, target: str) -> None:
    missing = missing_cpu_features(load_target(target))
    if missing:
        pytest.skip(f"this CPU lacks {', '.join(missing)}, which {target} needs")
    model = compiled(strategy, target=target)
    for x in samples(IMAGE, 3, seed=7):
        expected = model.reference({"image": x})
        assert same_bits(expected["logits"], model.run({"image": x})["logits"])
        assert same_bits(expected["logits"], np.asarray(model(x)))


@pytest.mark.parametrize("strategy", ["int8", "int4"])
def test_every_target_gives_the_same_bits(strategy: str) -> None:
    models = [compiled(strategy, target=t) for t in ("avx512-vnni", "x86-64-v3", "x86-64")]
    for x in samples(IMAGE, 3, seed=8):
        results = {m.reference({"image": x})["logits"].tobytes() for m in models}
        assert len(results) == 1


@pytest.mark.parametrize("strategy", ["int8", "int4"])
def test_quantization_keeps_the_answer_near(strategy: str) -> None:
    """Not the contract, but a wrong sign or scale anywhere would not pass.

    Uncorrelated logits differ by twice their power; int4 loses a few per cent of it.
    """
    model, exact = compiled(strategy), compiled("float32")
    images = samples(IMAGE, 16, seed=9)
    a = np.concatenate([np.asarray(model(x)) for x in images]).astype(np.float64)
    b = np.concatenate([np.asarray(exact(x)) for x in images]).astype(np.float64)
    assert np.square(a - b).sum() < 0.2 * np.square(b).sum()


@needs_linker
@pytest.mark.parametrize("strategy", ["float32", "mixed_int4_int8"])
def test_a_saved_model_is_deterministic_and_runs_alike(strategy: str, tmp_path: Path) -> None:
    first, second = tmp_path / "a" / "model.so", tmp_path / "b" / "model.so"
    for path in (first, second):
        path.parent.mkdir()
        compiled(strategy).save(path)
    assert first.read_bytes() == second.read_bytes()
    model, loaded = compiled(strategy), uqfc_runtime.load(first)
    assert loaded.layers == model.layers
    for x in samples(IMAGE, 3, seed=10):
        assert same_bits(loaded.run({"image": x})["logits"], model.run({"image": x})["logits"])


def test_passes_of_the_user_run_on_the_float_graph() -> None:
    seen: list[str] = []
    compiled(pass_pipeline="fold-constants", trace=lambda name, _: seen.append(name))
    assert seen.index("fuse-residual") < seen.index("insert-observers")
    assert seen.count("fold-constants") == 2
    assert seen[-1] == "plan-memory"


# --- models that come quantized -------------------------------------------------------------------


def test_weights_of_a_type_that_the_target_lacks_are_held_in_a_wider_one() -> None:
    given = quantized_perceptron()
    model = uqfc.compile(given, target="edge_device_v2", cache=False)
    assert {(la.requested, la.chosen, la.reason) for la in layers(model).values()} == {
        ("int4", "int8", "unsupported_by_target")
    }
    as_it_is = uqfc.compile(given, target="x86-64", strict=True, cache=False)
    assert {(la.chosen, la.reason) for la in layers(as_it_is).values()} == {("int4", "requested")}
    for x in samples((2, 6)):
        assert same_bits(np.asarray(as_it_is(x)), np.asarray(model(x)))
        assert same_bits(np.asarray(model(x)), model.reference({"x": x})["y"])


def test_strict_refuses_them() -> None:
    with pytest.raises(FallbackError, match=r"edge_device_v2: 2 fallback\(s\)") as caught:
        uqfc.compile(quantized_perceptron(), target="edge_device_v2", strict=True)
    lines = str(caught.value).splitlines()
    assert "  first: requested int4, got int8 (unsupported_by_target)" in lines


@pytest.mark.parametrize("strategy", ["int8", "int4"])
def test_integer_products_need_no_calibration_data(strategy: str) -> None:
    """A dynamically quantized model says itself what is integer; the rest stays float32."""
    random = np.random.default_rng(0)
    w = random.integers(-128, 128, (6, 5), np.int8)
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "scale", "zero"], name="quantize"),
        helper.make_node("MatMulInteger", ["q", "w", "zero"], ["sums"], name="product"),
        helper.make_node("Cast", ["sums"], ["floats"], name="cast", to=TensorProto.FLOAT),
        helper.make_node("Mul", ["floats", "scale"], ["y"], name="scale"),
    ]
    graph = helper.make_graph(
        nodes,
        "dynamic",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (2, 6))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (2, 5))],
        [numpy_helper.from_array(w, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    network = uqfc.compile(model, target="x86-64", quant_strategy=strategy)
    x = {"x": random.standard_normal((2, 6), np.float32)}
    assert np.array_equal(network.run(x)["y"], network.reference(x)["y"])
    assert np.allclose(network.run(x)["y"], x["x"] @ w, atol=6 * 128 * np.ptp(x["x"]) / 255)


@pytest.mark.parametrize("target", ["cortex-a76", "neoverse-v1", "rv64gcv"])
def test_object_files_of_other_architectures(target: str, tmp_path: Path) -> None:
    """Their machine code cannot be run here; the network is the one of every target."""
    model = compiled("int4", target=target, cache=False)
    model.save(tmp_path / "model.o")
    machine = int.from_bytes((tmp_path / "model.o").read_bytes()[18:20], "little")
    assert machine == ELF_MACHINES[model.target.architecture]
    assert str(model.network) == str(compiled("int4", target="x86-64", cache=False).network)
    if missing_cpu_features(model.target):
        with pytest.raises(TargetError, match=f"target {target} needs"):
            model(samples(IMAGE)[0])


@pytest.mark.parametrize("target", ["cortex-a76", "neoverse-v1", "rv64gcv"])
def test_llvm_knows_what_shipped_tables_name(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is only asked about tables of users, since asking takes another process."""
    monkeypatch.setattr(known, "_shipped", frozenset)
    table = load_target(target)
    known.check_known.__wrapped__(table.triple, table.cpu, table.features)
    with pytest.raises(TargetError, match=r"abacus.* LLVM: "):
        known.check_known.__wrapped__(table.triple, "abacus", table.features)


@pytest.mark.parametrize("target", ["wasm32-simd128", "nvptx-sm90"])
def test_a_table_without_code_is_refused_first(target: str) -> None:
    """Before calibration data are looked at."""
    with pytest.raises(TargetError, match=f"target {target}: a table only, .*: no "):
        compiled(target=target, calibration_data=5)


def test_a_table_that_has_no_kernels_is_refused_first(tmp_path: Path) -> None:
    """Before calibration data are looked at."""
    shipped = resources.files("uqfc.targets").joinpath("avx512-vnni.toml").read_text()
    table = re.sub(r"cpu_features = \[[^]]*\]", 'cpu_features = ["avx2"]', shipped)
    path = tmp_path / "device.toml"
    path.write_text(table)
    with pytest.raises(TargetError, match="'cpu_features': isa 'vnni512' also needs: avx512f"):
        compiled(target=str(path), calibration_data=5)
