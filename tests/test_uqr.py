"""Compiled models as UQR files, conversion to and from QDQ, and the command line."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

import uqfc
from tests.onnx_models import IMAGE, residual_network, samples
from uqfc.cli import main
from uqfc.dialects.tensors import Array
from uqfc.errors import ModelError, UqfcError, UqrError
from uqfc.frontend import read_onnx
from uqfc.model import build
from uqfc.targets import load_target

DATA = [{"image": x} for x in samples(IMAGE)]
STRATEGIES = ("int8", "int4", "ternary", "float32")


@cache
def compiled(strategy: str = "int4") -> uqfc.CompiledModel:
    return uqfc.compile(residual_network(), quant_strategy=strategy, calibration_data=DATA)


def differing(expected: dict[str, Array], actual: dict[str, Array]) -> list[str]:
    return [n for n in expected if expected[n].tobytes() != actual[n].tobytes()]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_saved_model_is_compiled_to_the_same_bits(tmp_path: Path, strategy: str) -> None:
    first = compiled(strategy)
    first.save(tmp_path / "net.cann")
    again = uqfc.compile(tmp_path / "net.cann", quant_strategy=strategy)
    for inputs in (*DATA, *({"image": x} for x in samples(IMAGE, seed=7))):
        assert not differing(first.run(inputs), again.run(inputs))
    chosen = [(layer.name, layer.requested, layer.chosen, layer.reason) for layer in first.layers]
    for layer in again.layers:
        if layer.weight_dtype is not None:
            assert (layer.name, layer.requested, layer.chosen, layer.reason) in chosen


def test_what_is_known_of_the_origin(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(residual_network(), path)
    model = uqfc.compile(path, calibration_data=DATA, calibration_method="minmax")
    document = uqfc.read_uqr(model.uqr())
    assert document.calibration is not None
    assert (document.calibration.method, document.calibration.samples) == ("minmax", len(DATA))
    assert document.provenance is not None
    assert document.provenance.source_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    kept = uqfc.read_uqr(uqfc.compile(model.uqr()).uqr())
    assert kept.calibration == document.calibration


def test_the_artifact_says_how_layers_are_quantized() -> None:
    ops = {op["name"]: op for op in compiled().info["uqr"]["ops"]}
    assert list(ops) == ["stem", "depthwise", "pointwise", "head"]
    assert ops["stem"]["weight_quant"] == {
        "dtype": "uint4",
        "symmetric": False,
        "granularity": "per_channel",
        "range": [0, 15],
    }
    assert ops["stem"]["activation_quant"]["integer_range"] == [0, 255]
    assert ops["stem"]["decision"]["chosen"] == "int4"
    assert "activation_quant" not in ops["head"]


def test_a_model_of_an_integer_network_has_no_uqr() -> None:
    network = compiled().network
    model = build(network, load_target("x86-64"), "x86-64", "net", "int4")
    with pytest.raises(UqfcError, match="quantize points"):
        model.uqr()


def test_unknown_suffix(tmp_path: Path) -> None:
    with pytest.raises(UqfcError, match=r"accepted: \.so, \.o, \.onnx, \.cann"):
        compiled().save(tmp_path / "net.json")


@pytest.mark.parametrize("strategy", ["int8", "int4", "ternary"])
def test_onnxruntime_opens_it(strategy: str) -> None:
    """It adds and rounds float32 in another order; the largest output is the same one."""
    model = compiled(strategy)
    session = ort.InferenceSession(model.uqr(), providers=["CPUExecutionProvider"])
    for inputs in DATA:
        (expected,) = session.run(None, inputs)
        assert np.argmax(model.run(inputs)["logits"]) == np.argmax(np.asarray(expected))


def qdq() -> bytes:
    return uqfc.convert_uqr(compiled("int8").uqr()).data


def test_convert_there_and_back() -> None:
    plain = qdq()
    assert not onnx.load_from_string(plain).metadata_props
    converted = uqfc.convert_uqr(plain)
    assert converted.format == "uqr"
    assert not converted.lost
    document = uqfc.read_uqr(converted.data)
    assert {op.name for op in document.ops} >= {"stem", "depthwise", "pointwise", "head"}
    assert uqfc.convert_uqr(converted.data).data == plain
    assert uqfc.convert_uqr(converted.data, "uqr").data == converted.data
    first, second = (uqfc.compile(data) for data in (plain, converted.data))
    assert not differing(first.run(DATA[0]), second.run(DATA[0]))


def test_the_document_of_qdq_says_what_the_graph_says() -> None:
    stem = next(op for op in uqfc.read_uqr(uqfc.convert_uqr(qdq()).data).ops if op.name == "stem")
    assert stem.weight_quant is not None
    assert stem.weight_quant.range == [-128, 127]
    assert stem.decision is None


def test_only_quantized_models_are_converted() -> None:
    data = residual_network().SerializeToString()
    with pytest.raises(UqrError, match="no quantized tensors; accepted: models in QDQ form"):
        uqfc.convert_uqr(data)
    with pytest.raises(UqrError, match="no metadata property 'uqr'; accepted: UQR models"):
        uqfc.read_uqr(data)
    with pytest.raises(UqfcError, match="format 'onnx' is unknown; accepted: qdq, uqr"):
        uqfc.convert_uqr(data, "onnx")
    with pytest.raises(ModelError, match=r"nothing\.onnx: cannot be read"):
        uqfc.read_uqr("nothing.onnx")


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, calibration = tmp_path / "net.onnx", tmp_path / "data.npz"
    onnx.save(residual_network(), source)
    np.savez(calibration, image=np.concatenate(samples(IMAGE)))
    output, cann, plain = (tmp_path / name for name in ("net.so", "net.cann", "qdq.onnx"))
    arguments = ["compile", source, "-o", output, "--calibrate", calibration, "--emit-uqr", cann]
    assert main([str(a) for a in arguments]) == 0
    assert main(["convert", str(cann), str(plain)]) == 0
    assert "qdq.onnx: " in capsys.readouterr().out
    assert read_onnx(plain).meaning.document is None
    assert main(["convert", str(plain), str(tmp_path / "again.cann"), "--to", "uqr"]) == 0
    document = uqfc.read_uqr(cann)
    assert json.loads(document.model_dump_json())["uqr"] == "1.0"
    assert main(["convert", str(source), str(plain)]) == 2
    assert "no quantized tensors" in capsys.readouterr().err
    wrong = [*arguments[:-1], tmp_path / "net.json"]
    assert main([str(a) for a in wrong]) == 2
    assert "ends in .onnx or .cann" in capsys.readouterr().err
