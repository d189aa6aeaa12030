"""``uqfc bench``: latency of a binary, alone or taking turns with ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

import uqfc_runtime
from uqfc.cli.console import print_json, print_table, say
from uqfc.cli.run import Binary
from uqfc.cli.targets import AsJson
from uqfc.errors import ModelError, UqfcError
from uqfc.timing import Latency, measure, measure_parallel
from uqfc_runtime import verification_inputs

_SEED = 0
_PEER = "onnxruntime"


def bench(
    binary: Binary,
    threads: Annotated[int, typer.Option(min=1, help="Parallel callers.")] = 1,
    against: Annotated[
        Path | None,
        typer.Option(help="ONNX model that ONNX Runtime runs in turn, on one thread."),
    ] = None,
    runs: Annotated[int, typer.Option(min=1, help="Calls that count, for each caller.")] = 200,
    warmup: Annotated[int, typer.Option(min=0, help="Calls before, that do not.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Measure a binary's latency on generated inputs."""
    if against is not None and threads != 1:
        raise UqfcError("--against compares on one thread: give it without --threads")
    model = uqfc_runtime.load(binary)
    inputs = verification_inputs(model.info, _SEED)
    if threads > 1:
        latency, rate = measure_parallel(partial(model.run, inputs), threads, runs, warmup)
        _report({model.info.name: latency}, as_json, threads=threads, calls_per_second=rate)
        return
    outputs = {t.name: np.empty(t.shape, t.dtype) for t in model.info.outputs}
    candidates: dict[str, Callable[[], object]] = {
        model.info.name: partial(model.run, inputs, outputs)
    }
    if against is None:
        _report(measure(candidates, runs, warmup), as_json)
        return
    candidates[_PEER] = peer_call(against, inputs)
    latencies = measure(candidates, runs, warmup)
    ratio = latencies[_PEER].median / latencies[model.info.name].median
    _report(latencies, as_json, ratio_of_medians=ratio)


def peer_call(path: Path, inputs: Mapping[str, NDArray[Any]]) -> Callable[[], object]:
    """One run of an ONNX model by ONNX Runtime on one thread, on these inputs.

    Raises UqfcError where ONNX Runtime is missing, ModelError where it refuses the model.
    """
    try:
        import onnxruntime  # noqa: PLC0415 - optional: only comparisons need it
    except ImportError as error:
        raise UqfcError("--against needs ONNX Runtime: pip install onnxruntime") from error
    ort: Any = onnxruntime
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        session.run(None, dict(inputs))
    except Exception as error:  # ONNX Runtime's errors have no common base
        raise ModelError(f"{path}: ONNX Runtime: {error}") from error
    return partial(session.run, None, dict(inputs))


def _report(latencies: Mapping[str, Latency], as_json: bool, **figures: float) -> None:
    if as_json:
        print_json({"milliseconds": {n: vars(la) for n, la in latencies.items()}, **figures})
        return
    columns = ("", "min ms", "median ms", "p90 ms", "runs")
    rows = [
        (name, f"{la.minimum:.3f}", f"{la.median:.3f}", f"{la.p90:.3f}", la.runs)
        for name, la in latencies.items()
    ]
    print_table(columns, rows, numeric=columns[1:])
    for name, value in figures.items():
        shown = f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"
        say(f"{name.replace('_', ' ')}: {shown}")
