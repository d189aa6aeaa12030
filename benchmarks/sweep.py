"""The command line that the tables of single layers share."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import layers, limits, report, tables
from benchmarks.layers import LayerWorkload
from benchmarks.measuring import Plan, load_average, restrict

WorkloadsOf = Callable[[int], Sequence[LayerWorkload]]
"""From the number of threads."""


def run(title: str, workloads: WorkloadsOf) -> None:
    """Parse the command line, measure, print, write JSON."""
    parser = argparse.ArgumentParser(description=f"{title}: single layers, taking turns.")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", default="", metavar="TEXT", help="layers whose names contain it")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each layer (default: 2)")
    parser.add_argument("--prepare", action="store_true", help="only fill the cache")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    a = parser.parse_args()
    chosen = [layer for layer in workloads(a.threads) if a.only in layer.name]
    if a.prepare:
        for layer in chosen:
            for name, reason in layers.prepare(layer).items():
                print(layer.name, name, reason or "ready", flush=True)
        return
    restrict(a.threads)
    done = measure(title, chosen, a.threads, a.seconds)
    tables.show_compact(done)
    if a.json is not None:
        report.write_json(done, a.json)


def measure(
    title: str, chosen: Sequence[LayerWorkload], threads: int, seconds: float
) -> report.Report:
    """All figures of the layers, one after the other."""
    peak_name, peak = limits.peak()
    sizes = {layer.name: layer.bytes_read for layer in chosen if layer.bytes_read}
    bandwidths = limits.bandwidths(set(sizes.values()))
    plan = Plan.of(seconds, threads)
    results: list[report.Result] = []
    load = 0.0
    for layer in chosen:
        results.append(layers.measure(layer, plan))
        load = max(load, load_average())
    return report.Report(
        title,
        threads,
        tuple(results),
        peak=threads * peak,
        peak_name=peak_name,
        bandwidth={name: bandwidths[size] for name, size in sizes.items()},
        load=load,
    )
