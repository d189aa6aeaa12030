"""Options that are refused: shapes, passes, targets, outputs, calibration data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.bad_input.complaints import (
    HUGE,
    SHAPE,
    Array,
    Capture,
    as_npz,
    compile_complaint,
    made,
    make_model,
    target_table,
    written,
)
from tests.codegen.toy import needs_linker
from uqfc.cli import main
from uqfc.targets import load_target

# --- options --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["x", "x=", "=1x3", "x=1x3x8x", "x=1x-3x8x8", "x=1x0x8x8", "x=axb", "x=1,3,8,8"]
)
def test_malformed_shape(text: str, tmp_path: Path, capsys: Capture) -> None:
    message = compile_complaint(capsys, tmp_path, make_model(), "--shape", text)
    assert "--shape" in message
    assert text in message
    assert "NAME=1x3x224x224" in message


@pytest.mark.parametrize("text", ["x=1x3x8", "x=1x4x8x8", "z=1x3x8x8", f"x=1x3x{HUGE}x{HUGE}"])
def test_shape_that_does_not_fit_the_model(text: str, tmp_path: Path, capsys: Capture) -> None:
    model = make_model(shape=("N", 3, "H", "W"))
    assert f"'{text[0]}'" in compile_complaint(capsys, tmp_path, model, "--shape", text)


def test_dynamic_shape_that_nobody_gave(tmp_path: Path, capsys: Capture) -> None:
    message = compile_complaint(capsys, tmp_path, make_model(shape=(1, 3, "H", 8)))
    assert "--shape x=" in message


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("no-such-pass", "no-such-pass"),
        ("fold-constants{", "fold-constants{"),
        (",,", ",,"),
        ("fold-constants{speed=9}", "speed"),
    ],
)
def test_wrong_pass_pipeline(text: str, named: str, tmp_path: Path, capsys: Capture) -> None:
    message = compile_complaint(capsys, tmp_path, make_model(), "--pass-pipeline", text)
    assert named in message


def test_unknown_target(tmp_path: Path, capsys: Capture) -> None:
    message = compile_complaint(capsys, tmp_path, make_model(), "--target", "avx512-vni")
    assert "'avx512-vni'" in message
    assert "did you mean avx512-vnni" in message


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("= 1", "TOML"),
        ("name = 'mine'", "triple"),
        ("\x00", "TOML"),
        ("name = [" * 1000, "TOML"),
        ("isa = 'sse9'", "isa"),
        ("colour = 'red'", "colour"),
    ],
)
def test_malformed_target(text: str, named: str, tmp_path: Path, capsys: Capture) -> None:
    table = tmp_path / "mine.toml"
    table.write_text(text)
    message = compile_complaint(capsys, tmp_path, make_model(), "--target", table)
    assert "mine.toml" in message
    assert named in message


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"cpu": "no-such-cpu"}, "no-such-cpu"),
        ({"features": ["+no-such-feature"]}, "no-such-feature"),
        ({"isa": "vnni512"}, "avx512_vnni"),
        ({"isa": "avx2", "cpu_features": ["avx2", "fma", "bmi2"], "features": ["-avx2"]}, "-avx2"),
    ],
)
def test_targets_that_would_crash_the_compiler_or_the_binary(
    changes: dict[str, object], named: str, tmp_path: Path, capsys: Capture
) -> None:
    table = tmp_path / "mine.toml"
    table.write_text(target_table(**changes))
    assert named in compile_complaint(capsys, tmp_path, make_model(), "--target", table)


@needs_linker
def test_a_table_whose_cpu_lacks_what_its_kernels_use(tmp_path: Path) -> None:
    """The kernels' own features are always on: LLVM would end the process without them."""
    table, output = tmp_path / "mine.toml", tmp_path / "model.o"
    features = list(load_target("avx512-vnni").cpu_features)
    table.write_text(target_table(isa="vnni512", cpu="x86-64", cpu_features=features))
    onnx.save(make_model(), tmp_path / "model.onnx")
    images = as_npz(tmp_path / "c.npz", x=np.ones(SHAPE, np.float32))
    options = ["--target", str(table), "--calibrate", str(images)]
    assert main(["compile", str(tmp_path / "model.onnx"), "-o", str(output), *options]) == 0


@pytest.mark.parametrize("name", ["missing/model.o", "folder.o", "model.exe", "file/model.o"])
def test_unwritable_output(name: str, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "folder.o").mkdir()
    (tmp_path / "file").touch()
    message = compile_complaint(capsys, tmp_path, make_model(), "-o", tmp_path / name)
    assert name in message


# --- calibration data -----------------------------------------------------------------------------


def with_one(value: float) -> Array:
    images = np.ones((3, *SHAPE[1:]), np.float32)
    images[1, 2, 3, 4] = value
    return images


CALIBRATION: dict[str, tuple[Callable[[Path], Path], str]] = {
    "wrong name": (lambda p: as_npz(p / "c.npz", z=np.ones(SHAPE, np.float32)), "'z'"),
    "wrong shape": (lambda p: as_npz(p / "c.npz", x=np.ones((4, 3, 8, 9), np.float32)), "'x'"),
    "wrong rank": (lambda p: as_npz(p / "c.npz", x=np.ones(7, np.float32)), "'x'"),
    "wrong dtype": (lambda p: as_npz(p / "c.npz", x=np.ones(SHAPE, np.int64)), "int64"),
    "NaN": (lambda p: as_npz(p / "c.npz", x=with_one(np.nan)), "'x': nan"),
    "infinite": (lambda p: as_npz(p / "c.npz", x=with_one(np.inf)), "sample 1"),
    "no samples": (lambda p: as_npz(p / "c.npz", x=np.ones((0, 3, 8, 8), np.float32)), "sample"),
    "objects": (lambda p: as_npz(p / "c.npz", x=np.array([{}], object)), "Python objects"),
    "no zip": (lambda p: written(p / "c.npz", b"PK\x03\x04 and nothing else"), "c.npz"),
    "no npy": (lambda p: written(p / "c.npy", b"\x93NUMPY\x01\x00\xff"), "c.npy"),
    "pickle": (lambda p: written(p / "c.npy", b"\x80\x04]."), "c.npy"),
    "other suffix": (lambda p: written(p / "c.csv", b"1,2"), "c.csv"),
    "missing": (lambda p: p / "c.npz", "c.npz"),
    "empty directory": (lambda p: made(p / "images"), "images"),
}


@pytest.mark.parametrize("case", CALIBRATION)
def test_calibration_data(case: str, tmp_path: Path, capsys: Capture) -> None:
    make, named = CALIBRATION[case]
    options = ("--quant-strategy", "int8", "--calibrate", make(tmp_path))
    assert named in compile_complaint(capsys, tmp_path, make_model(), *options)


def test_no_calibration_data(tmp_path: Path, capsys: Capture) -> None:
    message = compile_complaint(capsys, tmp_path, make_model(), "--quant-strategy", "int4")
    assert "calibration data" in message
    assert ".npz" in message
