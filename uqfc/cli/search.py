"""``uqfc search``: the weight types of all layers, for accuracy, latency and size at once."""

from __future__ import annotations

from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated

import typer

from uqfc.cli.bit_widths import read_object
from uqfc.cli.compile import parse_shape
from uqfc.cli.console import complain, print_json, print_table, progress, say
from uqfc.cli.options import AsJson, Shapes, TargetName, UseCache
from uqfc.errors import UqfcError
from uqfc.latency import LatencyTable
from uqfc.search import Metric, SearchResult, search_bit_width
from uqfc.search.loop import METHODS

INFEASIBLE = 3
"""Exit status: the search ended, and nothing that was evaluated meets the limits."""
INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""


def search(
    model: Annotated[Path, typer.Argument(help="ONNX model, float.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="MODEL.so, or MODEL.o, of what is found.")
    ] = None,
    calibrate: Annotated[
        Path | None, typer.Option(help="Calibration data; by default the samples of --data.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Samples that accuracy is measured by; default: those of --calibrate."),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="Their classes: .npy, or .npz with `labels`; by default in --data."),
    ] = None,
    target: TargetName = "host",
    space: Annotated[
        Path | None,
        typer.Option(help="JSON: weight types by pattern of layers; all by default."),
    ] = None,
    accuracy: Annotated[float | None, typer.Option(help="Least accuracy, 0 to 1.")] = None,
    max_drop: Annotated[
        float | None, typer.Option(help="Most points of accuracy below float32, e.g. 1.3.")
    ] = None,
    latency: Annotated[str | None, typer.Option(help="Most time of a call: 0.1ms, 100us.")] = None,
    size: Annotated[str | None, typer.Option(help="Most constants: 900kB, 1MB, 1MiB.")] = None,
    latencies: Annotated[
        Path | None, typer.Option(help="Table of `uqfc profile-target`, instead of measuring.")
    ] = None,
    objective: Annotated[
        str | None, typer.Option(help="What is best within the limits: " + ", ".join(Metric))
    ] = None,
    method: Annotated[str, typer.Option(help=", ".join(METHODS))] = "auto",
    budget: Annotated[int, typer.Option(min=1, help="Candidates to compile and evaluate.")] = 32,
    seconds: Annotated[
        float | None, typer.Option(help="Start no evaluation after so many seconds.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes that evaluate candidates.")] = 1,
    seed: Annotated[int, typer.Option(help="Of all random choices.")] = 0,
    journal: Annotated[
        Path | None, typer.Option(help="Keeps every evaluation: a search can go on from it.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Write accuracy over size: FILE.svg.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write everything found: FILE.json.")] = None,
    shape: Shapes = None,
    threads: Annotated[int, typer.Option(min=1, help="Most threads of one run.")] = 1,
    cache: UseCache = True,
    as_json: AsJson = False,
) -> None:
    """Search the layers' weight types. Status 3: nothing meets the limits."""
    check_outputs(output, plot, report)
    example = '{"*.dw": ["int8"], "head": ["int8", "int4"]}'
    given = None if space is None else read_object(space, "search space", example)
    with ExitStack() as stack:
        executor: Executor | None = None
        if jobs > 1:
            pool = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"))
            executor = stack.enter_context(pool)
        try:
            with progress("search") as say_progress:
                result = search_bit_width(
                    model,
                    given,
                    accuracy_constraint=accuracy,
                    max_drop_points=max_drop,
                    latency_target=latency,
                    latencies=None if latencies is None else LatencyTable.load(latencies),
                    size_target=size,
                    objective=objective,
                    data=calibrate if data is None else data,
                    labels=labels,
                    calibration_data=None if data is None else calibrate,
                    target=target,
                    method=method,
                    budget=budget,
                    seconds=seconds,
                    executor=executor,
                    seed=seed,
                    journal=journal,
                    progress=say_progress,
                    shapes=dict(parse_shape(text) for text in shape or ()),
                    threads=threads,
                    cache=cache,
                )
        except KeyboardInterrupt:
            kept = "nothing was kept, as there is no --journal"
            if journal is not None:
                kept = f"{journal} has all evaluations: the same command goes on from there"
            complain(f"interrupted; {kept}")
            raise typer.Exit(INTERRUPTED) from None
        write(result, output, plot, report)
    if as_json:
        print_json(result.document())
    else:
        show(result, output)
    if not result.feasible:
        raise typer.Exit(INFEASIBLE)


def check_outputs(output: Path | None, plot: Path | None, report: Path | None) -> None:
    """UqfcError before any work, where a result could not be written."""
    suffixes = ((output, (".so", ".o")), (plot, (".svg",)), (report, (".json",)))
    for path, accepted in suffixes:
        if path is None:
            continue
        if path.suffix not in accepted:
            raise UqfcError(f"{path}: its name must end in {' or '.join(accepted)}")
        if not path.parent.is_dir():
            raise UqfcError(f"{path}: there is no directory {path.parent}")


def write(
    result: SearchResult, output: Path | None, plot: Path | None, report: Path | None
) -> None:
    """Each file at once. Without a configuration that meets the limits there is no binary."""
    if output is not None and result.model is not None:
        result.model.save(output)
    if plot is not None:
        result.plot(plot)
    if report is not None:
        result.save(report)


def show(result: SearchResult, output: Path | None) -> None:
    """The Pareto table, what was chosen and why, or what is missing."""
    head, *rows = result.rows()
    print_table(head, rows, title="Pareto front", numeric=head[1:4])
    say(f"{len(result.candidates)} of {result.combinations:,} configurations were evaluated")
    for note in result.notes:
        say(f"note: {note}")
    if result.decisions is not None:
        lines = [(n, d.requested, d.chosen, d.reason) for n, d in result.decisions.items()]
        print_table(("layer", "narrowest", "chosen", "reason"), lines, title="Layers")
    if result.optimality is not None:
        found = result.optimality
        say(
            f"{found.objective} is at most {found.gap:.2%} above the optimum of the calibrated "
            "surrogate"
        )
    if output is not None and result.model is not None:
        say(f"{output}: {output.stat().st_size:,} bytes for {result.model.target.name}")
    if result.infeasibility is None:
        return
    say("no configuration that was evaluated meets all limits:")
    shown = [
        (each.metric, *map(_figure, (each.limit, each.best, each.with_others, each.fails_by)))
        for each in result.infeasibility.unmet
    ]
    columns = ("limit of", "limit", "best seen", "possible beside the others", "fails by")
    print_table(columns, shown, numeric=columns[1:])
    nearest = [
        (_figure(c.outcome.accuracy), _figure(c.outcome.size), _figure(c.outcome.latency), c.types)
        for c in result.infeasibility.nearest
    ]
    head = ("accuracy", "bytes", "ms", "types")
    print_table(head, nearest, title="Nearest", numeric=head[:3])


def _figure(value: float | None) -> str | None:
    return None if value is None else f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"
