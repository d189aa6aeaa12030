"""From an ONNX file to results, by the command line alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import uqfc
from tests.codegen.toy import needs_linker
from uqfc.cli import main

STRATEGIES = ("float32", "int8", "int4", "mixed_int4_int8", "ternary", "binary")
SHAPE = (1, 3, 8, 8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds ``model.onnx``, ``calibration.npz`` and ``x.npz``."""
    path = tmp_path_factory.mktemp("cli")
    random = np.random.default_rng(3)
    onnx.save(small_network(random), path / "model.onnx")
    images = random.standard_normal((16, *SHAPE[1:]), dtype=np.float32)
    np.savez(path / "calibration.npz", image=images)
    np.savez(path / "x.npz", image=images[:1])
    return path


def small_network(random: np.random.Generator) -> onnx.ModelProto:
    """Convolution, ReLU, mean and a linear layer; ``image`` [N, 3, 8, 8] to ``logits`` [N, 5]."""
    weights = {
        "conv.weight": random.standard_normal((20, 3, 3, 3)) / 5,
        "conv.bias": random.standard_normal(20),
        "head.weight": random.standard_normal((5, 20)) / 4,
        "head.bias": random.standard_normal(5),
    }
    nodes = [
        helper.make_node(
            "Conv", ["image", "conv.weight", "conv.bias"], ["c"], name="conv", pads=[1, 1, 1, 1]
        ),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node("GlobalAveragePool", ["r"], ["m"], name="mean"),
        helper.make_node("Flatten", ["m"], ["f"], name="flatten"),
        helper.make_node(
            "Gemm", ["f", "head.weight", "head.bias"], ["logits"], name="head", transB=1
        ),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", *SHAPE[1:]])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 5])],
        [numpy_helper.from_array(w.astype(np.float32), name) for name, w in weights.items()],
    )
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8)


def compile_arguments(folder: Path, strategy: str, output: Path) -> list[str]:
    arguments = ["compile", str(folder / "model.onnx"), "-o", str(output)]
    arguments += ["--quant-strategy", strategy, "--shape", f"image={'x'.join(map(str, SHAPE))}"]
    if strategy != "float32":
        arguments += ["--calibrate", str(folder / "calibration.npz")]
    return arguments


@needs_linker
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_binary_gives_the_bits_of_the_reference(
    strategy: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    binary, output = tmp_path / "model.so", tmp_path / "y.npz"
    assert main(compile_arguments(folder, strategy, binary)) == 0
    assert f"{binary}: {binary.stat().st_size:,} bytes" in capsys.readouterr().out
    arguments = ["run", str(binary), "--input", str(folder / "x.npz"), "--output", str(output)]
    assert main(arguments) == 0
    reference = uqfc.compile(
        folder / "model.onnx",
        quant_strategy=strategy,
        calibration_data=None if strategy == "float32" else folder / "calibration.npz",
        shapes={"image": SHAPE},
    ).reference({"image": np.load(folder / "x.npz")["image"]})
    assert np.load(output)["logits"].tobytes() == reference["logits"].tobytes()
    assert main(["verify", str(binary)]) == 0
    assert "same bits" in capsys.readouterr().out


@needs_linker
@pytest.mark.parametrize("strategy", ["float32", "int4"])
def test_the_same_command_gives_the_same_bytes(strategy: str, folder: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first.so", tmp_path / "second.so"
    assert main(compile_arguments(folder, strategy, first)) == 0
    assert main(compile_arguments(folder, strategy, second)) == 0
    assert first.read_bytes() == second.read_bytes()


def test_an_object_file_comes_with_its_header(folder: Path, tmp_path: Path) -> None:
    assert main(compile_arguments(folder, "int8", tmp_path / "model.o")) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"model.o", "model.h"}


def test_what_a_target_lacks_is_said(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "model.o"
    arguments = [*compile_arguments(folder, "int4", output), "--target", "edge_device_v2"]
    assert main(arguments) == 0
    assert "unsupported_by_target" in capsys.readouterr().out
    output.unlink()
    (tmp_path / "model.h").unlink()
    assert main([*arguments, "--strict"]) == 2
    assert "conv" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@needs_linker
def test_bench_against_onnx_runtime(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    binary = tmp_path / "model.so"
    assert main(compile_arguments(folder, "float32", binary)) == 0
    capsys.readouterr()
    arguments = ["bench", str(binary), "--runs", "5", "--warmup", "1", "--json", "--against"]
    assert main([*arguments, str(folder / "model.onnx")]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ratio_of_medians"] > 0
    assert {latency["runs"] for latency in report["milliseconds"].values()} == {5}
    assert main([*arguments, str(folder / "x.npz")]) == 2
    assert "ONNX Runtime" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--calibrate", "missing.npz"], "missing.npz"),
        (["--target", "avx513"], "avx513"),
        (["--shape", "picture=1x3x8x8"], "picture"),
        (["--pass-pipeline", "no-such-pass"], "no-such-pass"),
    ],
)
def test_errors_leave_the_old_file_alone(
    changes: list[str],
    message: str,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "model.o"
    output.write_bytes(b"old")
    assert main([*compile_arguments(folder, "int8", output), *changes]) == 2
    assert message in capsys.readouterr().err
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x08\x12"])
def test_a_damaged_model(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(content)
    assert main(["compile", str(model), "-o", str(tmp_path / "model.o")]) == 2
    assert str(model) in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [model]


def test_quantization_needs_calibration_data(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["compile", str(folder / "model.onnx"), "--shape", "image=1x3x8x8"]
    assert main([*arguments, "-o", str(tmp_path / "model.o")]) == 2
    assert "calibrat" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
