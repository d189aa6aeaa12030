"""``uqfc profile-target``: measures how long the layers of a network take with each weight type."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from uqfc.calibrated import calibrate_model
from uqfc.cli.compile import parse_shape
from uqfc.cli.console import print_table, progress, say
from uqfc.cli.options import Shapes, TargetName
from uqfc.errors import UqfcError
from uqfc.latency import RUNS, WARMUP, LatencyTable, measure_latencies, require_runnable
from uqfc.targets import load_target


def profile_target(
    model: Annotated[Path, typer.Argument(help="A float ONNX model.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The table: LATENCY.json.")],
    calibrate: Annotated[
        Path, typer.Option(help="Calibration data: .npz, .npy, or a directory of images.")
    ],
    target: TargetName = "host",
    dtype: Annotated[
        list[str] | None,
        typer.Option(metavar="TYPE", help="A type of weights; repeatable. Default: all."),
    ] = None,
    shape: Shapes = None,
    runs: Annotated[int, typer.Option(min=1, help="Calls that count, of each type.")] = RUNS,
    warmup: Annotated[int, typer.Option(min=0, help="Calls before, that do not.")] = WARMUP,
) -> None:
    """Measure a network's layers with all types of weights. On this machine."""
    if output.suffix != ".json":
        raise UqfcError(f"{output}: a latency table's name ends in .json")
    require_runnable(load_target(target))
    with progress("profile-target") as report:
        calibrated = calibrate_model(
            model,
            target=target,
            calibration_data=calibrate,
            shapes=dict(parse_shape(text) for text in shape or ()),
            progress=report,
        )
        table = measure_latencies(calibrated, dtype, report, runs=runs, warmup=warmup)
    table.save(output)
    show(table)
    say(f"{output}: {len(table.layers)} measurements for {table.target}, on {table.cpu}")


def show(table: LatencyTable) -> None:
    """Microseconds of all layers together, by type."""
    dtypes = dict.fromkeys(entry.dtype for entry in table.layers)
    rows = [
        (dtype, len(taken), f"{sum(taken):.1f}")
        for dtype in dtypes
        if (taken := [e.microseconds for e in table.layers if e.dtype == dtype])
    ]
    print_table(("weights", "layers", "µs"), rows, numeric=("layers", "µs"))
    say(f"beside the layers: {table.fixed:.1f} µs a call")
