"""The figure of the README: how fast each runtime is on each network, as an SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.report import Report, Row, median, pick, ratio
from benchmarks.tables import threads_text, title

SERIES: Mapping[str, Sequence[str]] = {
    "uqfc INT4": ("uqfc int4",),
    "uqfc INT8": ("uqfc int8",),
    "OpenVINO": ("OpenVINO default", "OpenVINO float32", "OpenVINO int8"),
    "ONNX Runtime": ("ONNX Runtime float32", "ONNX Runtime int8"),
    "LiteRT": ("LiteRT float32", "LiteRT int8"),
    "torch": ("torch eager", "torch compile"),
}
"""The best of a runtime's candidates stands for it."""
COLOURS = ("#0b5cad", "#5b9bd5", "#8c6bb1", "#74a57f", "#d8a24a", "#b5b5b5")
ROW_INCHES = 0.2
WIDTH_INCHES = 8.5
SETTINGS = {
    "svg.fonttype": "none",  # text stays text, and does not depend on the installed fonts
    "svg.hashsalt": "uqfc",
    "font.family": "sans-serif",
    "font.size": 9,
}


def draw(report: Report, path: Path) -> None:
    """Write bars of speed relative to each network's best peer; the same report, the same bytes."""
    import matplotlib as mpl  # noqa: PLC0415 - optional

    mpl.use("svg")
    from matplotlib import pyplot  # noqa: PLC0415

    plots: Any = pyplot
    library: Any = mpl
    with library.rc_context(SETTINGS):
        height = ROW_INCHES * (len(SERIES) + 1) * len(report.results) + 1
        figure, axes = plots.subplots(figsize=(WIDTH_INCHES, height))
        add_bars(report, axes)
        axes.axvline(1, color="#444444", linewidth=0.8)
        axes.set_yticks([centre(i) for i in range(len(report.results))])
        axes.set_yticklabels([title(one.workload) for one in report.results])
        axes.invert_yaxis()
        axes.set_xlabel(
            f"times as fast as the best peer (median, {threads_text(report.threads)}; "
            "labels: milliseconds)"
        )
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(x=0.08, y=0.02)
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=len(SERIES), frameon=False)
        figure.tight_layout()
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
        plots.close(figure)


def add_bars(report: Report, axes: Any) -> None:
    """A bar for each runtime that was measured on each network, with its milliseconds."""
    for index, (label, colour) in enumerate(zip(SERIES, COLOURS, strict=True)):
        rows = [(i, speed_and_row(report, i, label)) for i in range(len(report.results))]
        found = [(i, speed, row) for i, (speed, row) in rows if row is not None]
        places = [top(i) + index for i, _, _ in found]
        speeds = [speed for _, speed, _ in found]
        axes.barh(places, speeds, height=0.85, color=colour, label=label)
        for place, (_, speed, row) in zip(places, found, strict=True):
            axes.text(speed + 0.03, place, f"{median(row):.3g}", va="center", fontsize=7)


def speed_and_row(report: Report, index: int, label: str) -> tuple[float, Row | None]:
    """A runtime's speed on a network relative to the best peer, and its row."""
    one = report.results[index]
    best, row = one.best_peer(), pick(one, SERIES[label])
    return (0.0, None) if best is None or row is None else (ratio(best, row), row)


def top(index: int) -> float:
    """Place of a network's first bar."""
    return index * (len(SERIES) + 1)


def centre(index: int) -> float:
    return top(index) + (len(SERIES) - 1) / 2
