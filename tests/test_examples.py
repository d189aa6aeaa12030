"""Runs the scripts in examples/ the way their readers would, on little data."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from uqfc.codegen import linker

FASHION_MNIST = Path(__file__).resolve().parents[1] / "examples" / "fashion_mnist"


@pytest.mark.skipif(not any(linker.linkers("x86_64")), reason="no linker on this machine")
def test_fashion_mnist_demo(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    little = ["--images", "20", "--calibration", "8", "--checked", "1", "--runs", "5"]
    command = [sys.executable, "-W", "error", str(FASHION_MNIST / "demo.py"), *little]
    command += ["--build", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "same bits as the definition" in done.stdout
    measured = json.loads((tmp_path / "results.json").read_text())["results"]
    assert list(measured) == ["ONNX Runtime float32", "uqfc float32", "uqfc INT8", "uqfc INT4"]
    assert measured["uqfc float32"]["agreement"] == 1.0
    assert measured["uqfc INT4"]["bytes"] < measured["uqfc INT8"]["bytes"]
