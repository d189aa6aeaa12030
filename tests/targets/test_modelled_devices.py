"""Devices that have, and lack, 4-bit weights: what layers get, and where the reasons are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import uqfc
from tests.codegen.toy import needs_linker
from tests.onnx_models import IMAGE, residual_network, samples
from tests.passes.graphs import same_bits
from uqfc.cli import main
from uqfc.dialects import nn
from uqfc.dialects.tensors import element_of, i4, ui4
from uqfc.errors import FallbackError
from uqfc.model import CompiledModel

LAYERS = ("stem", "depthwise", "pointwise", "head")
FALLBACK = ("int4", "int8", "unsupported_by_target")


def with_a_sensitive_layer() -> onnx.ModelProto:
    """One channel that ``pointwise`` reads is small, and its weights are large: the step of int4
    weights that hold these is a large part of all other weights."""
    model = residual_network()
    for tensor in model.graph.initializer:
        if tensor.name in ("depthwise.w", "pointwise.w"):
            array = numpy_helper.to_array(tensor).copy()
            if tensor.name == "depthwise.w":
                array[0] *= np.float32(1e-3)
            else:
                array[:, 0] = np.float32(5)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return model


def mixed(model: onnx.ModelProto, target: str, **options: Any) -> CompiledModel:
    return uqfc.compile(
        model,
        target=target,
        quant_strategy="mixed_int4_int8",
        calibration_data=samples(IMAGE, 16),
        **options,
    )


def decisions(model: CompiledModel) -> dict[str, tuple[Any, ...]]:
    return {
        layer.name: (layer.requested, layer.chosen, layer.reason)
        for layer in model.layers
        if layer.weight_dtype is not None
    }


def four_bit_constants(model: CompiledModel) -> int:
    return sum(
        element_of(op.result) in (i4, ui4)
        for level in (model.network, model.kernels)
        for op in level.walk()
        if isinstance(op, nn.ConstantOp)
    )


def check_bits(model: CompiledModel) -> None:
    (x,) = model.info["inputs"]
    (y,) = model.info["outputs"]
    for sample in samples(x["shape"], 3, seed=9):
        inputs = {x["name"]: sample}
        assert same_bits(model.run(inputs)[y["name"]], model.reference(inputs)[y["name"]])


def test_a_device_without_int4_gets_none() -> None:
    model = mixed(residual_network(), "edge_device_v2")
    assert decisions(model) == dict.fromkeys(LAYERS, FALLBACK)
    assert four_bit_constants(model) == 0
    assert not any("4" in (layer.kernel or "").partition("_")[0] for layer in model.layers)
    as_int8 = uqfc.compile(
        residual_network(),
        target="edge_device_v2",
        quant_strategy="int8",
        calibration_data=samples(IMAGE, 16),
    )
    assert model.weights == as_int8.weights
    check_bits(model)


def test_an_npu_gets_int4_where_that_is_not_sensitive() -> None:
    model = mixed(with_a_sensitive_layer(), "kirkwood_npu")
    assert decisions(model) == {
        name: ("int4", "int8", "sensitive")
        if name == "pointwise"
        else ("int4", "int4", "requested")
        for name in LAYERS
    }
    assert four_bit_constants(model) > 0
    check_bits(model)
    lacking = mixed(with_a_sensitive_layer(), "edge_device_v2")
    assert decisions(lacking) == dict.fromkeys(LAYERS, FALLBACK)


def test_strict_lists_what_was_not_to_be_had() -> None:
    with pytest.raises(FallbackError) as caught:
        mixed(with_a_sensitive_layer(), "kirkwood_npu", strict=True)
    assert str(caught.value).splitlines() == [
        "target kirkwood_npu: 1 fallback(s)",
        "  pointwise: requested int4, got int8 (sensitive)",
    ]


def test_a_uqr_file_has_the_reasons() -> None:
    model = mixed(residual_network(), "edge_device_v2")
    ops = {op.name: op for op in uqfc.read_uqr(model.uqr()).ops}
    for name in LAYERS:
        decision = ops[name].decision
        assert decision is not None
        assert (decision.requested, decision.chosen, str(decision.reason)) == FALLBACK
    summary = {op["name"]: op["decision"] for op in model.info["uqr"]["ops"] if "decision" in op}
    assert {summary[name]["reason"] for name in LAYERS} == {"unsupported_by_target"}


# --- the command line -----------------------------------------------------------------------------


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    onnx.save(residual_network(), tmp_path / "model.onnx")
    np.savez(tmp_path / "data.npz", image=np.concatenate(samples(IMAGE, 4)))
    model, data = str(tmp_path / "model.onnx"), str(tmp_path / "data.npz")
    return ["compile", model, "--calibrate", data, "--target", "edge_device_v2"]


MIXED = ("--quant-strategy", "mixed_int4_int8")


@needs_linker
def test_inspect_shows_the_reasons(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    binary = str(tmp_path / "model.so")
    assert main([*arguments, *MIXED, "-o", binary]) == 0
    assert capsys.readouterr().out.count("unsupported_by_target") == len(LAYERS)
    assert main(["inspect", binary]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    shown = {row[0]: tuple(row[-3:]) for row in rows if row and row[0] in LAYERS}
    assert shown == dict.fromkeys(LAYERS, FALLBACK)
    assert main(["inspect", binary, "--json"]) == 0
    layers = json.loads(capsys.readouterr().out)["layers"]
    assert [la["reason"] for la in layers if la["name"] in LAYERS] == [FALLBACK[2]] * len(LAYERS)
    assert main(["verify", binary]) == 0


def test_strict_exits_with_2_and_the_list(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "model.o"
    assert main([*arguments, *MIXED, "--strict", "-o", str(output)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "target edge_device_v2: 4 fallback(s)" in err
    for name in LAYERS:
        assert f"  {name}: requested int4, got int8 (unsupported_by_target)" in err.splitlines()
    assert not output.exists()
    assert not output.with_suffix(".h").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"stm": "int4"}', "no layer matches 'stm'; nearest: stem"),
        ('{"stem": "int5"}', "'stem': 'int5' is unknown; accepted: int8"),
        ('{"stem": 4}', "widths.json: 'stem': accepted: the name of a type"),
        ('["stem"]', "widths.json: accepted: an object such as"),
        (
            '{"stem": "int4", "stem": "int8"}',
            "not a JSON file of bit widths: 'stem' is",
        ),
        ("[" * 100_000, "widths.json: not a JSON file of bit widths"),
        (" " * ((1 << 20) + 1), "widths.json: bit widths are at most"),
        (None, "widths.json: cannot read the bit widths"),
    ],
)
def test_bit_widths_that_are_refused(
    content: str | None,
    message: str,
    arguments: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path, output = tmp_path / "widths.json", tmp_path / "model.o"
    if content is not None:
        path.write_text(content)
    assert main([*arguments, "--bit-widths", str(path), "-o", str(output)]) == 2
    err = capsys.readouterr().err
    assert message in err.replace("\n", "")
    assert "Traceback" not in err
    assert not output.exists()


def test_bit_widths_of_a_file(arguments: list[str], tmp_path: Path) -> None:
    path, output = tmp_path / "widths.json", tmp_path / "model.o"
    path.write_text('{"*wise": "int4", "head": "float32"}')
    arguments[-1] = "kirkwood_npu"
    assert main([*arguments, "--bit-widths", str(path), "--strict", "-o", str(output)]) == 0
    assert output.exists()
