"""Reports as tables: on the console, and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import machine
from benchmarks.candidates import is_ours
from benchmarks.report import (
    Report,
    Result,
    Row,
    fastest,
    fraction,
    median,
    pick,
    ratio,
    write_json,
)

WIDTH = 160
"""Of tables that are not printed on a terminal, in characters."""
MISSING = "–"
TITLES = {
    "mobilenet_v3_small": "MobileNetV3-Small",
    "mobilenet_v3_large": "MobileNetV3-Large",
    "mobilenet_v2": "MobileNetV2",
    "efficientnet_lite0": "EfficientNet-Lite0",
    "resnet18": "ResNet-18",
    "resnet50": "ResNet-50",
    "pp-ocr_cls": "PP-OCR cls",
}
"""What workloads are called in text; others keep their names."""
SHORT = {"ONNX Runtime": "ORT", "OpenVINO": "OV"}


def finish(report: Report, path: Path | None) -> None:
    """Print the report, and write its JSON if there is a path."""
    show(report)
    if path is not None:
        write_json(report, path)


def show(report: Report, console: Console | None = None) -> None:
    """Print a table for each workload, and why candidates are missing."""
    out = console or wide_console()
    introduce(report, out)
    for one in report.results:
        out.print(table_of(report, one))
        for row in one.rows:
            if row.latency is None:
                out.print(f" {row.candidate}: not available: {row.reason}", markup=False)


def show_compact(report: Report, console: Console | None = None) -> None:
    """Print one table with a line for each workload: medians in microseconds."""
    out = console or wide_console()
    introduce(report, out)
    names = list(dict.fromkeys(row.candidate for one in report.results for row in one.rows))
    table = Table(box=None, title="median µs", title_justify="left")
    table.add_column("")
    for column in [*map(short, names), "GMAC/s", "% of limit", "× best peer"]:
        table.add_column(column, justify="right")
    for one in report.results:
        cells = {row.candidate: row for row in one.rows}
        mine, best = fastest(one.ours()), one.best_peer()
        texts = [microseconds(cells.get(name)) for name in names]
        table.add_row(one.workload, *texts, *summary(report, one, mine, best))
    out.print(table)
    reasons = {(r.candidate, r.reason) for o in report.results for r in o.rows if r.reason}
    for candidate, reason in sorted(reasons):
        out.print(f" {candidate}: not available: {reason}", markup=False)


def introduce(report: Report, out: Console) -> None:
    """Print title, machine and versions, and whether the figures can be trusted."""
    about = machine.one_line(report.machine)
    out.print(f"[bold]{report.title}[/], {threads_text(report.threads)}; {about}")
    if report.preliminary:
        out.print(f"preliminary: the machine is busy (load {report.load:.1f})")


def wide_console() -> Console:
    """As wide as the terminal; wide enough for the tables where there is none."""
    return Console(highlight=False, width=None if Console().is_terminal else WIDTH)


def table_of(report: Report, one: Result) -> Table:
    """A line for each candidate; the last columns are its median by ours."""
    ours = one.ours()
    bound = "read bandwidth" if one.bytes_read else report.peak_name
    columns = ["min ms", "median ms", "p90 ms", "cold ms", "GMAC/s", f"% of {bound}"]
    table = Table(title=one.workload, title_justify="left", box=None)
    table.add_column("", no_wrap=True)
    for column in [*columns, *(f"{row.candidate} ×" for row in ours)]:
        table.add_column(column, justify="right")
    for row in one.rows:
        if row.latency is None:
            continue
        figures = (row.latency.minimum, row.latency.median, row.latency.p90)
        cells = [f"{v:.3f}" for v in figures]
        cells += [MISSING if row.cold is None else f"{row.cold:.3f}"]
        cells += [f"{one.macs / median(row) / 1e6:.1f}", percent(fraction(report, one, row))]
        table.add_row(row.candidate, *cells, *(f"{ratio(row, mine):.2f}" for mine in ours))
    return table


def summary(report: Report, one: Result, mine: Row | None, best: Row | None) -> list[str]:
    """Of our fastest: GMAC/s, percent of the limit, and times as fast as the best peer."""
    if mine is None:
        return [MISSING] * 3
    rate = f"{one.macs / median(mine) / 1e6:.0f}"
    faster = MISSING if best is None else f"{ratio(best, mine):.2f}"
    return [rate, percent(fraction(report, one, mine)), faster]


def microseconds(row: Row | None) -> str:
    return MISSING if row is None or row.latency is None else f"{median(row) * 1e3:.1f}"


def percent(part: float | None) -> str:
    return MISSING if part is None else f"{100 * part:.0f}"


def title(workload: str) -> str:
    return TITLES.get(workload, workload)


def short(name: str) -> str:
    for long, text in SHORT.items():
        name = name.replace(long, text)
    return name


def threads_text(threads: int) -> str:
    return "one thread" if threads == 1 else f"{threads} threads"


# --- Markdown ------------------------------------------------------------------------------------


def markdown(report: Report, columns: Mapping[str, Sequence[str]]) -> str:
    """Medians in milliseconds: a line for each workload, a column for each of ``columns``.

    A column shows the fastest of its candidates; the last one is the first column's speed against
    the best peer, whose median is in italics.
    """
    first = next(iter(columns))
    head = ["median ms", *columns, f"{first} against the best peer"]
    lines = [line(head), "|---|" + "---:|" * (len(head) - 1)]
    for one in report.results:
        cells = [pick(one, names) for names in columns.values()]
        best = one.best_peer()
        texts = [milliseconds(cell, emphasized=cell is not None and cell is best) for cell in cells]
        mine = cells[0]
        faster = MISSING if best is None or mine is None else f"**{ratio(best, mine):.1f} ×**"
        lines.append(line([title(one.workload), *texts, faster]))
    return "\n".join(lines)


def markdown_of_all(report: Report) -> str:
    """Medians of every candidate (lines) on every workload (columns), and reasons below."""
    names = list(dict.fromkeys(row.candidate for one in report.results for row in one.rows))
    head = ["median (minimum) ms", *(title(one.workload) for one in report.results)]
    lines = [line(head), "|---|" + "---:|" * len(report.results)]
    for name in names:
        cells = [next((r for r in one.rows if r.candidate == name), None) for one in report.results]
        lines.append(line([name, *map(median_and_minimum, cells)]))
    notes = [
        f"- {title(one.workload)}, {row.candidate}: not available: {row.reason}"
        for one in report.results
        for row in one.rows
        if row.latency is None
    ]
    return "\n".join([*lines, "", *notes] if notes else lines)


def markdown_of_layers(report: Report) -> str:
    """Medians in microseconds: a line for each layer, a column for each candidate."""
    names = list(dict.fromkeys(row.candidate for one in report.results for row in one.rows))
    head = ["median µs", *map(short, names), "GMAC/s", "% of limit", "times the best peer"]
    lines = [line(head), "|---|" + "---:|" * (len(head) - 1)]
    for one in report.results:
        cells = {row.candidate: row for row in one.rows}
        figures = summary(report, one, fastest(one.ours()), one.best_peer())
        texts = [microseconds(cells.get(name)) for name in names]
        lines.append(line([one.workload, *texts, *figures]))
    return "\n".join(lines)


def line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def milliseconds(row: Row | None, *, emphasized: bool = False) -> str:
    if row is None or row.latency is None:
        return MISSING
    text = f"{median(row):.3g}"
    return f"*{text}*" if emphasized else text


def median_and_minimum(row: Row | None) -> str:
    if row is None or row.latency is None:
        return MISSING
    text = f"{median(row):.3g} ({row.latency.minimum:.3g})"
    return f"**{text}**" if is_ours(row.candidate) else text


def replace_region(path: Path, name: str, text: str) -> None:
    """Replace what stands between a file's ``<!-- NAME:begin -->`` and ``<!-- NAME:end -->``.

    ValueError if the file has no such region.
    """
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    before, found, rest = path.read_text(encoding="utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{path}: no region between {begin} and {end}")
    path.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")
