"""Every table and the figure of README.md and docs/benchmarks.md, in one command.

    python -m benchmarks [--render] [--quick]

Measures each table in a process of its own, writes docs/benchmarks/*.json, and from these the SVG
and the marked regions of both files. ``--render`` only does the latter, ``--quick`` measures a
tenth of the time.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from benchmarks import figure, tables
from benchmarks.machine import one_line
from benchmarks.report import Report, read_json

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "docs/benchmarks"
README = ROOT / "README.md"
PAGE = ROOT / "docs/benchmarks.md"
FIGURE = DATA / "networks.svg"
SECONDS = {"networks": 8.0, "depthwise": 1.0, "gemm": 1.0}
"""For each workload of a table."""
README_COLUMNS = figure.SERIES


def measure(name: str, seconds: float) -> None:
    """Run one table. Raises subprocess.CalledProcessError if it fails."""
    target = DATA / f"{name}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", f"benchmarks.{name}"]
    subprocess.run([*command, "--prepare"], cwd=ROOT, check=True)
    options = ["--seconds", str(seconds), "--json", str(target)]
    subprocess.run([*command, *options], cwd=ROOT, check=True)


def render() -> None:
    """Write the figure and the regions of the files from the JSON documents that are there."""
    networks = read_json(DATA / "networks.json")
    figure.draw(networks, FIGURE)
    tables.replace_region(README, "benchmarks", readme_text(networks))
    tables.replace_region(
        PAGE, "networks", f"{caption(networks)}\n\n{tables.markdown_of_all(networks)}"
    )
    for name in ("depthwise", "gemm"):
        if (DATA / f"{name}.json").is_file():
            report = read_json(DATA / f"{name}.json")
            text = f"{caption(report)}\n\n{tables.markdown_of_layers(report)}"
            tables.replace_region(PAGE, name, text)


def readme_text(networks: Report) -> str:
    """Figure, table and caption."""
    image = f"![Speed relative to the best peer]({FIGURE.relative_to(ROOT)})"
    return f"{image}\n\n{tables.markdown(networks, README_COLUMNS)}\n\n{caption(networks)}"


def caption(report: Report) -> str:
    """Where the figures come from, and whether they can be trusted."""
    text = f"{tables.threads_text(report.threads).capitalize()}; {one_line(report.machine)}."
    if report.preliminary:
        text += f" Preliminary: the machine was busy (load {report.load:.1f})."
    return text


def main() -> None:
    """Measure and render."""
    parser = argparse.ArgumentParser(description="All tables and the figure.")
    parser.add_argument("--render", action="store_true", help="from the JSON that is there")
    parser.add_argument("--quick", action="store_true", help="measure a tenth of the time")
    a = parser.parse_args()
    if not a.render:
        for name, seconds in SECONDS.items():
            measure(name, seconds / 10 if a.quick else seconds)
    render()


if __name__ == "__main__":
    main()
