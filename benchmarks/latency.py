"""Latency of uqfc's float32, INT8 and INT4 next to ONNX Runtime's float32 and INT8, one thread.

    python -m benchmarks.latency [--models FILE.onnx …] [--runs 300] [--json FILE]

By default: MobileNetV3-Small at 224 × 224 (random weights, `make models`) and the Fashion-MNIST
example. All candidates take turns in one process that is bound to one core, after a warm-up;
compare medians of one table only. On a busy machine the figures are marked as preliminary.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

import uqfc
from benchmarks.compile_time import only_input
from uqfc.timing import Latency, measure

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples/fashion_mnist/mobilenet_v3_small.onnx"
STRATEGIES = ("float32", "int8", "int4")
PEER, PEER_INT8 = "onnxruntime float32", "onnxruntime int8"
CALIBRATION_SAMPLES = 4
QUIET_LOAD = 1.5
"""Processes that want to run, on average over a minute: above this, figures are preliminary."""

Array = NDArray[np.float32]
Call = Callable[[], object]

ort: Any = onnxruntime


def default_models() -> list[Path]:
    """The two networks of the module's documentation, of those that are there."""
    from tests.models.catalog import torchvision_models  # noqa: PLC0415 - only without --models

    exported = torchvision_models().get("mobilenet_v3_small")
    return [path for path in (exported, EXAMPLE) if path is not None]


def calls(model: Path, peer_int8: bool) -> dict[str, Call]:
    """What is measured, by name: calls that run ``model`` once on the same input."""
    ((name, shape),) = only_input(model).items()
    random = np.random.default_rng(0)
    data = random.standard_normal((CALIBRATION_SAMPLES, *shape), dtype=np.float32)
    feed = {name: data[0]}
    found: dict[str, Call] = {PEER: partial(session(model).run, None, feed)}
    if peer_int8:
        with tempfile.TemporaryDirectory() as folder:
            quantized = quantized_by_peer(model, name, data, Path(folder))
            found[PEER_INT8] = partial(session(quantized).run, None, feed)
    for strategy in STRATEGIES:
        compiled = uqfc.compile(
            model,
            quant_strategy=strategy,
            calibration_data=None if strategy == "float32" else {name: data},
            shapes={name: shape},
        )
        out = compiled.run(feed)
        found[f"uqfc {strategy}"] = partial(compiled.run, feed, out)
    return found


def session(model: Path) -> Any:
    """ONNX Runtime on one thread, with all its graph optimizations."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def quantized_by_peer(model: Path, name: str, data: Array, folder: Path) -> Path:
    """ONNX Runtime's static quantization: QDQ, u8 activations, s8 weights per channel."""
    from onnxruntime import quantization  # noqa: PLC0415 - slow, and not always wanted
    from onnxruntime.quantization import shape_inference  # noqa: PLC0415

    class Reader(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self.feeds: Iterator[dict[str, Array]] = ({name: x} for x in data)

        def get_next(self) -> dict[str, Array] | None:  # pyright: ignore[reportIncompatibleMethodOverride]
            return next(self.feeds, None)

    tools: Any = quantization  # their stubs are incomplete
    preparation: Any = shape_inference
    prepared, quantized = folder / "prepared.onnx", folder / "quantized.onnx"
    preparation.quant_pre_process(str(model), str(prepared), skip_symbolic_shape=True)
    tools.quantize_static(
        str(prepared),
        str(quantized),
        Reader(),
        quant_format=tools.QuantFormat.QDQ,
        per_channel=True,
        activation_type=tools.QuantType.QUInt8,
        weight_type=tools.QuantType.QInt8,
    )
    return quantized


@contextmanager
def bound_to_one_core() -> Generator[None]:
    """The highest core that this process may use; all of them where there is no affinity."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def show(console: Console, model: Path, latencies: dict[str, Latency]) -> None:
    """Print one model's table."""
    table = Table(title=f"{model.parent.name}/{model.name}", title_justify="left", box=None)
    for column in ("", "min ms", "median ms", "p90 ms", "× peer"):
        table.add_column(column, justify="right" if column else "left")
    for name, one in latencies.items():
        ratio = latencies[PEER].median / one.median
        figures = (f"{v:.3f}" for v in (one.minimum, one.median, one.p90))
        table.add_row(name, *figures, f"{ratio:.2f}")
    console.print(table)


def main() -> None:
    """Measure every model, print tables, write JSON."""
    parser = argparse.ArgumentParser(description="Latencies, taking turns, on one core.")
    parser.add_argument("--models", type=Path, nargs="*", metavar="FILE.onnx")
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--warmup", type=int, default=30)
    parser.add_argument("--no-peer-int8", action="store_true")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    a = parser.parse_args()
    console = Console(highlight=False)
    load = os.getloadavg()[0]
    preliminary = load >= QUIET_LOAD
    if preliminary:
        console.print(f"preliminary: the machine is busy (load {load:.1f})")
    results: dict[str, dict[str, dict[str, float]]] = {}
    for model in a.models or default_models():
        candidates = calls(model, not a.no_peer_int8)
        with bound_to_one_core():
            latencies = measure(candidates, a.runs, a.warmup)
        show(console, model, latencies)
        results[str(model)] = {n: asdict(one) for n, one in latencies.items()}
    document = {
        "machine": platform.machine(),
        "load": load,
        "preliminary": preliminary,
        "onnxruntime": ort.__version__,
        "milliseconds": results,
    }
    if a.json is not None:
        a.json.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
