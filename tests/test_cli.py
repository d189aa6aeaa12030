"""The command line: arguments, messages, exit status, and what is left on disk."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.codegen.toy import (
    TARGET,
    WEIGHTS,
    make_info,
    needs_linker,
    toy_inputs,
    toy_model,
    toy_object,
)
from uqfc.cli import main
from uqfc.cli.compile import parse_shape
from uqfc.cli.run import read_arrays
from uqfc.codegen.artifact import write_shared_object
from uqfc.errors import InputError, UqfcError
from uqfc.targets import available_targets
from uqfc.version import __version__
from uqfc_runtime import record

COMMANDS = ("compile", "run", "bench", "inspect", "verify", "targets")
shapes = st.lists(st.integers(1, 10_000), min_size=1, max_size=5).map(tuple)


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """A binary with two inputs, ``x`` float32 [2, 20] and ``i`` uint8 [1], and recorded outputs."""
    path = tmp_path / "toy.so"
    verification = record(toy_model(), seed=5)
    info = make_info(verification={"seed": 5, "outputs": dict(verification.outputs)})
    write_shared_object(path, [toy_object()], WEIGHTS, info, TARGET)
    return path


def errors_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Stderr of a command that fails with status 2 and prints nothing else."""
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    return err


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(command in out for command in COMMANDS)


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"uqfc {__version__}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert f"Usage: uqfc {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["compile"],
        ["compile", "model.onnx"],
        ["compile", "model.onnx", "-o", "m.so", "--quant-strategy", "int5"],
        ["compile", "model.onnx", "-o", "m.so", "--calibration-method", "guess"],
        ["run", "model.so"],
        ["bench", "model.so", "--threads", "0"],
        ["bench", "model.so", "--callers", "0"],
        ["compile", "model.onnx", "-o", "m.so", "--threads", "257"],
        ["targets", "host", "surplus"],
    ],
)
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert "Error:" in errors_of(capsys, *arguments)


@given(st.text(min_size=1), shapes)
def test_shapes_parse_back(name: str, shape: tuple[int, ...]) -> None:
    assert parse_shape(f"{name}={'x'.join(map(str, shape))}") == (name, shape)


@pytest.mark.parametrize("text", ["", "image", "image=", "=1x3", "image=1x0", "a=1x-3", "a=1X3"])
def test_malformed_shapes(text: str) -> None:
    with pytest.raises(UqfcError, match="NAME=1x3x224x224"):
        parse_shape(text)


def test_output_must_be_a_known_kind(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    message = errors_of(capsys, "compile", "model.onnx", "-o", str(tmp_path / "model.exe"))
    assert ".so or .o" in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["inspect", "verify", "bench"])
def test_what_is_not_a_binary(
    command: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "model.so"
    path.write_bytes(b"\x7fELF" + bytes(200))
    assert str(path) in errors_of(capsys, command, str(path))
    assert "no such file" in errors_of(capsys, command, str(tmp_path / "other.so"))


def test_run_writes_nothing_when_it_fails(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    source, output = str(tmp_path / "x.npz"), str(tmp_path / "y.npz")
    errors_of(capsys, "run", str(tmp_path / "m.so"), "--input", source, "--output", output)
    message = errors_of(capsys, "run", "m.so", "--input", source, "--output", "y.txt")
    assert "y.txt" in message
    assert list(tmp_path.iterdir()) == []


def test_pickles_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, image=np.array([{}], dtype=object))
    with pytest.raises(InputError, match=r"x\.npz"):
        read_arrays(path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", b"\x93NUMPY", b"nothing"])
def test_unreadable_arrays(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"x\.npz"):
        read_arrays(path)


def test_one_unnamed_array_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, np.zeros(3))
    with pytest.raises(InputError, match="savez"):
        read_arrays(path)


def test_targets_lists_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["targets"]) == 0
    listed = capsys.readouterr().out
    assert main(["targets", "--json"]) == 0
    tables = json.loads(capsys.readouterr().out)
    assert [table["name"] for table in tables] == list(available_targets())
    assert all(name in listed for name in available_targets())
    rows = {line.split()[0]: line.split() for line in listed.splitlines()}
    assert rows["edge_device_v2"][3:] == ["cdl", "-", "-", "-", "-", "-", "cdl"]
    assert rows["kirkwood_npu"][3:] == ["cdl", "cdl", "cdl", "cdl", "-", "-", "cdl"]
    assert rows["nvptx-sm90"][1:3] == ["table", "only"]


def test_one_target_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["targets", "wasm32-simd128"]) == 0
    shown = capsys.readouterr().out
    assert "table only: no entry points and no runtime for WebAssembly" in shown
    assert "SIMD      WebAssembly SIMD, 128 bits" in shown
    (depthwise,) = [line for line in shown.splitlines() if line.startswith("depthwise ")]
    assert "int8 int4 ternary binary  uint8 int8" in depthwise
    assert depthwise.split()[-2:] == ["-", "2"]
    assert main(["targets", "wasm32-simd128", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "table only"


def test_the_schema_of_tables(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["targets", "--schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema["additionalProperties"] is False
    assert set(schema["required"]) == {"name", "description", "triple", "cpu", "isa", "kernels"}
    assert "--schema" in errors_of(capsys, "targets", "host", "--schema")


def test_callers_and_against_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    message = errors_of(capsys, "bench", "m.so", "--callers", "2", "--against", "m.onnx")
    assert "--against" in message


@needs_linker
def test_run_gives_what_the_model_gives(toy: Path) -> None:
    source, output = toy.with_name("x.npz"), toy.with_name("y.npz")
    np.savez(source, allow_pickle=False, **toy_inputs(3))
    assert main(["run", str(toy), "--input", str(source), "--output", str(output)]) == 0
    expected = toy_model().run(toy_inputs(3))
    with np.load(output) as results:
        assert sorted(results) == sorted(expected)
        assert all(results[name].tobytes() == expected[name].tobytes() for name in expected)
    assert {path.name for path in toy.parent.iterdir()} == {"toy.so", "x.npz", "y.npz"}


@needs_linker
def test_run_names_the_wrong_input(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = toy.with_name("x.npz")
    np.savez(source, x=np.zeros((2, 20), np.float64), i=np.zeros(1, np.uint8))
    message = errors_of(capsys, "run", str(toy), "-i", str(source), "-o", str(toy.parent / "y.npz"))
    assert "'x'" in message
    assert "float32[2, 20]" in message
    assert not (toy.parent / "y.npz").exists()


@needs_linker
def test_inspect_shows_decisions(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(toy)]) == 0
    out = capsys.readouterr().out
    assert "x float32[2, 20], i uint8[1]" in out
    assert "no_kernel" in out
    assert main(["inspect", str(toy), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["layers"] == make_info()["layers"]


@needs_linker
def test_names_from_a_model_cannot_drive_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "toy.so"
    name = "\x1b[31m[red]conv[/red]\x1b]0;title\x07"
    info = make_info(layers=[make_info()["layers"][0] | {"name": name}])
    write_shared_object(path, [toy_object()], WEIGHTS, info, TARGET)
    assert main(["inspect", str(path)]) == 0
    assert "?[31m[red]conv[/red]?]0;title?" in capsys.readouterr().out


@needs_linker
def test_verify_passes_and_fails_by_its_status(
    toy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(toy)]) == 0
    assert "same bits" in capsys.readouterr().out
    wrong = make_info(verification={"seed": 5, "outputs": {"y": "0" * 64, "z": "0" * 64}})
    write_shared_object(toy, [toy_object()], WEIGHTS, wrong, TARGET)
    assert main(["verify", str(toy)]) == 1
    assert "DIFFERENT BITS" in capsys.readouterr().out


@needs_linker
@pytest.mark.parametrize("callers", [1, 2])
def test_bench_reports_latencies(
    callers: int, toy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["bench", str(toy), "--callers", str(callers), "--runs", "5", "--warmup", "1"]
    assert main(arguments) == 0
    assert "median ms" in capsys.readouterr().out
    assert main([*arguments, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    latency = report["milliseconds"]["toy"]
    assert latency["runs"] == 5 * callers
    assert 0 < latency["minimum"] <= latency["median"] <= latency["p90"]
    assert report["threads"] == 1
    assert ("calls_per_second" in report) == (callers > 1)


@needs_linker
def test_more_threads_than_the_binary_was_compiled_for(
    toy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = errors_of(capsys, "bench", str(toy), "--threads", "2")
    assert "2 threads, but it was compiled for 1 to 1" in message
