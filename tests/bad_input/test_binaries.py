"""Binaries, and inputs at run time, that are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.bad_input.complaints import (
    Capture,
    as_npz,
    complaint,
    made,
    make_model,
    target_table,
    written,
)
from tests.codegen.toy import TARGET, WEIGHTS, make_info, needs_linker, toy_object
from uqfc.cli import main
from uqfc.codegen.artifact import write_shared_object
from uqfc_runtime.artifact import ELF_MACHINES, TRAILER, make_trailer


@pytest.fixture
def binary(tmp_path: Path) -> Path:
    """Takes ``x`` float32 [2, 20] and ``i`` uint8 [1]."""
    path = tmp_path / "toy.so"
    write_shared_object(path, [toy_object()], WEIGHTS, make_info(), TARGET)
    return path


def binary_complaints(capsys: Capture, binary: Path) -> list[str]:
    """What every command that reads a binary says about it."""
    return [
        *run_complaints(capsys, binary),
        complaint(capsys, binary.parent, "inspect", binary),
    ]


def run_complaints(capsys: Capture, binary: Path) -> list[str]:
    """What every command that would execute the binary says about it."""
    source = as_npz(binary.with_name("x.npz"), x=np.zeros((2, 20), np.float32))
    commands: list[list[object]] = [
        ["run", binary, "-i", source, "-o", binary.with_name("y.npz")],
        ["bench", binary],
        ["verify", binary],
    ]
    return [complaint(capsys, binary.parent, *command) for command in commands]


@needs_linker
def test_binary_for_cpu_features_that_are_missing(tmp_path: Path, capsys: Capture) -> None:
    table, output = tmp_path / "mine.toml", tmp_path / "model.so"
    table.write_text(target_table(cpu_features=["avx9000"]))
    model = tmp_path / "model.onnx"
    onnx.save(make_model(), model)
    options = ["--quant-strategy", "float32", "--target", str(table)]
    assert main(["compile", str(model), "-o", str(output), *options]) == 0
    capsys.readouterr()
    for message in run_complaints(capsys, output):
        assert "avx9000" in message
        assert "mine" in message
    assert main(["inspect", str(output)]) == 0
    assert "avx9000" in capsys.readouterr().out


@needs_linker
def test_binary_for_another_machine(binary: Path, capsys: Capture) -> None:
    content = binary.read_bytes()
    body, (_, offset, size, _) = content[: -TRAILER.size], TRAILER.unpack(content[-TRAILER.size :])
    other = ELF_MACHINES["aarch64"].to_bytes(2, "little")
    altered = body[:18] + other + body[20:]
    info = altered[offset : offset + size]
    binary.write_bytes(altered + make_trailer(altered, info))
    for message in run_complaints(capsys, binary):
        assert "toy.so" in message
        assert "aarch64" in message
    assert main(["inspect", str(binary)]) == 0


@needs_linker
@pytest.mark.parametrize("size", [0, 1, 55, 56, 64, 4096, -57, -56, -1])
def test_truncated_binary(size: int, binary: Path, capsys: Capture) -> None:
    binary.write_bytes(binary.read_bytes()[:size])
    assert all("toy.so" in message for message in binary_complaints(capsys, binary))


@needs_linker
def test_any_altered_byte_is_noticed(binary: Path, capsys: Capture) -> None:
    content = binary.read_bytes()
    spread = [*range(0, len(content) - TRAILER.size, 997)]
    for at in [*spread, *range(len(content) - TRAILER.size, len(content))]:
        altered = bytearray(content)
        altered[at] ^= 0x10
        binary.write_bytes(altered)
        assert "toy.so" in complaint(capsys, binary.parent, "inspect", binary)


@pytest.mark.parametrize("content", [b"", b"\x7fELF", bytes(4096), b"UQFCBIN1" * 512])
def test_not_a_binary(content: bytes, tmp_path: Path, capsys: Capture) -> None:
    path = written(tmp_path / "toy.so", content)
    assert all("toy.so" in message for message in binary_complaints(capsys, path))


def test_missing_binary(tmp_path: Path, capsys: Capture) -> None:
    assert all("toy.so" in m for m in binary_complaints(capsys, tmp_path / "toy.so"))


# --- inputs at run time ---------------------------------------------------------------------------

X, INDEX = np.zeros((2, 20), np.float32), np.zeros(1, np.uint8)
INPUTS: dict[str, tuple[dict[str, object], str]] = {
    "wrong shape": ({"x": X.T, "i": INDEX}, "'x': expected float32[2, 20], got float32[20, 2]"),
    "wrong rank": ({"x": X[0], "i": INDEX}, "'x'"),
    "wrong dtype": ({"x": X, "i": INDEX.astype(np.int64)}, "'i': expected uint8[1], got int64[1]"),
    "missing": ({"x": X}, "missing input 'i'"),
    "surplus": ({"x": X, "i": INDEX, "z": INDEX}, "unknown input 'z'"),
    "objects": ({"x": np.array([{}], object), "i": INDEX}, "x.npz"),
}


@needs_linker
@pytest.mark.parametrize("case", INPUTS)
def test_inputs_at_run_time(case: str, binary: Path, capsys: Capture) -> None:
    arrays, message = INPUTS[case]
    source = as_npz(binary.with_name("x.npz"), **arrays)
    output = binary.with_name("y.npz")
    assert message in complaint(capsys, binary.parent, "run", binary, "-i", source, "-o", output)


@needs_linker
@pytest.mark.parametrize("name", ["missing/y.npz", "folder.npz", "y.csv"])
def test_unwritable_results(name: str, binary: Path, capsys: Capture) -> None:
    made(binary.with_name("folder.npz"))
    source = as_npz(binary.with_name("x.npz"), x=X, i=INDEX)
    output = binary.parent / name
    assert name in complaint(capsys, binary.parent, "run", binary, "-i", source, "-o", output)
