"""LiteRT (XNNPACK): float32, and INT8 by its own static quantization.

Its converter needs other versions of packages than uqfc does, so it lives in an environment of its
own, which ``make peers`` makes; UQFC_LITERT_PYTHON names that environment's interpreter.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cache import ROOT, cached
from benchmarks.candidates import Call, UnavailableError, need
from benchmarks.workloads import Workload
from tests.models.catalog import TORCHVISION_NAMES

VARIABLE = "UQFC_LITERT_PYTHON"
DEFAULT_PYTHON = ROOT / ".venv-litert/bin/python"


def float32(workload: Workload, threads: int) -> Call:
    """Converted from the torchvision network."""
    return run(cached(workload, "litert_float32", ".tflite", convert), workload, threads)


def int8(workload: Workload, threads: int) -> Call:
    """The same, with 8-bit weights and activations, calibrated on the workload's samples."""
    return run(cached(workload, "litert_int8", ".tflite", quantize), workload, threads)


def run(model: Path, workload: Workload, threads: int) -> Call:
    """A call on an input that is in place already: NHWC, and INT8 where the model takes that."""
    need("ai_edge_litert")
    from ai_edge_litert import interpreter  # noqa: PLC0415 - optional

    library: Any = interpreter
    loaded = library.Interpreter(str(model), num_threads=threads)
    loaded.allocate_tensors()
    details: dict[str, Any] = loaded.get_input_details()[0]
    image = workload.sample.transpose(0, 2, 3, 1)
    if details["dtype"] is np.int8:
        quantization: tuple[float, int] = details["quantization"]
        scale, zero_point = quantization
        quantized = np.clip(np.rint(image / scale) + zero_point, -128, 127).astype(np.int8)
        loaded.set_tensor(details["index"], quantized)
    else:
        loaded.set_tensor(details["index"], image)
    return loaded.invoke


def convert(workload: Workload, target: Path) -> None:
    """Write the float32 model."""
    run_converter(workload, target)


def quantize(workload: Workload, target: Path) -> None:
    """Write the INT8 model, from the float32 model."""
    floating = cached(workload, "litert_float32", ".tflite", convert)
    samples = target.with_suffix(".npy")
    np.save(samples, np.moveaxis(workload.data, 2, -1))
    run_converter(workload, target, "--quantize", str(floating), str(samples))


def run_converter(workload: Workload, target: Path, *options: str) -> None:
    """Run ``litert_convert`` in the converter's own environment; UnavailableError if it fails."""
    need("ai_edge_litert")
    python = Path(os.environ.get(VARIABLE, DEFAULT_PYTHON))
    if not python.is_file():
        raise UnavailableError(f"its converter is not installed: `make peers`, or set {VARIABLE}")
    if workload.name not in TORCHVISION_NAMES:
        raise UnavailableError("its converter starts from torch; there is no torch module of this")
    command = [str(python), "-m", "benchmarks.peers.litert_convert", workload.name, str(target)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, *options],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode or not target.is_file():
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise UnavailableError(f"conversion failed: {last[0]}")
