"""``uqfc bench``: latency of a binary, alone or taking turns with ONNX Runtime, or by layer."""

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
from uqfc.cli.options import AsJson
from uqfc.cli.profile import profile_model
from uqfc.errors import ModelError, UqfcError
from uqfc.options import QuantStrategy
from uqfc.timing import Latency, measure, measure_parallel
from uqfc_runtime import verification_inputs

_SEED = 0
_PEER = "onnxruntime"


def bench(
    model: Annotated[
        Path, typer.Argument(help="A shared object of `uqfc compile`; with --profile MODEL.onnx.")
    ],
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of one call. Default: as it was compiled.")
    ] = None,
    callers: Annotated[int, typer.Option(min=1, help="Parallel callers.")] = 1,
    against: Annotated[
        Path | None,
        typer.Option(help="ONNX model that ONNX Runtime runs in turn, on as many threads."),
    ] = None,
    runs: Annotated[int, typer.Option(min=1, help="Calls that count, for each caller.")] = 200,
    warmup: Annotated[int, typer.Option(min=0, help="Calls before, that do not.")] = 20,
    by_layer: Annotated[
        bool, typer.Option("--profile", help="Compile MODEL.onnx and show what each kernel takes.")
    ] = False,
    target: Annotated[str, typer.Option(help="With --profile: see `uqfc compile`.")] = "host",
    quant_strategy: Annotated[
        QuantStrategy, typer.Option(help="With --profile: type of the weights.")
    ] = QuantStrategy.INT8,
    calibrate: Annotated[
        Path | None, typer.Option(help="With --profile: calibration data; random if not given.")
    ] = None,
    shape: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=1x3x224x224", help="With --profile: shape of an input."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure a binary's latency, or each kernel of a model. Inputs are generated."""
    if against is not None and callers != 1:
        raise UqfcError("--against compares one caller: give it without --callers")
    if not by_layer:
        measure_binary(model, threads, callers, against, runs, warmup, as_json)
        return
    if against is not None or callers != 1 or threads not in (None, 1):
        raise UqfcError(
            "--profile is of one thread of uqfc: give it without --against, --callers, --threads"
        )
    profile_model(
        model,
        target=target,
        strategy=quant_strategy,
        calibrate=calibrate,
        shape=shape or (),
        runs=runs,
        warmup=warmup,
        as_json=as_json,
    )


def measure_binary(
    path: Path,
    threads: int | None,
    callers: int,
    against: Path | None,
    runs: int,
    warmup: int,
    as_json: bool,
) -> None:
    """Print the latency of an artifact, of parallel callers or taking turns with a peer."""
    model = uqfc_runtime.load(path, threads=threads)
    inputs = verification_inputs(model.info, _SEED)
    figures = {"threads": model.threads}
    if callers > 1:
        latency, rate = measure_parallel(partial(model.run, inputs), callers, runs, warmup)
        figures |= {"callers": callers, "calls_per_second": rate}
        _report({model.info.name: latency}, as_json, **figures)
        return
    outputs = {t.name: np.empty(t.shape, t.dtype) for t in model.info.outputs}
    candidates: dict[str, Callable[[], object]] = {
        model.info.name: partial(model.run, inputs, outputs)
    }
    if against is None:
        _report(measure(candidates, runs, warmup), as_json, **figures)
        return
    candidates[_PEER] = peer_call(against, inputs, model.threads)
    latencies = measure(candidates, runs, warmup)
    ratio = latencies[_PEER].median / latencies[model.info.name].median
    _report(latencies, as_json, **figures, ratio_of_medians=ratio)


def peer_call(path: Path, inputs: Mapping[str, NDArray[Any]], threads: int) -> Callable[[], object]:
    """One run of an ONNX model by ONNX Runtime on these inputs.

    Raises UqfcError where ONNX Runtime is missing, ModelError where it refuses the model.
    """
    try:
        import onnxruntime  # noqa: PLC0415 - optional: only comparisons need it
    except ImportError as error:
        raise UqfcError("--against needs ONNX Runtime: pip install onnxruntime") from error
    ort: Any = onnxruntime
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
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
