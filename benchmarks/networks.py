"""Latency of whole networks next to other runtimes.

    python -m benchmarks.networks [--threads 1] [--networks NAME …] [--candidates TEXT …]
                                  [--targets host …] [--seconds 6] [--prepare] [--json FILE]

``--candidates`` keeps those whose names contain one of the texts. ``--prepare`` only fills the
cache (quantized models, compiled models), so that measuring takes less time.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from benchmarks import limits, ours, report, tables
from benchmarks.candidates import Call, Factory, all_ready
from benchmarks.measuring import Plan, load_average, restrict, take_single_turns, take_turns
from benchmarks.peers import litert, onnxruntime, openvino, pytorch
from benchmarks.workloads import NETWORKS, Workload, multiply_accumulates, network
from uqfc.targets import host_target

STRATEGIES = ("int4", "int8", "float32")
"""Of the host's target; others run INT4."""
OTHER_TARGETS = ("avx512-vnni", "x86-64-v3")
"""Measured beside the host's by default, to compare with peers that use all that the CPU has."""
PEERS: Mapping[str, Callable[[Workload, int], Call]] = {
    "ONNX Runtime float32": onnxruntime.float32,
    "ONNX Runtime int8": onnxruntime.int8,
    "OpenVINO default": openvino.default,
    "OpenVINO float32": openvino.float32,
    "OpenVINO int8": openvino.int8,
    "LiteRT float32": litert.float32,
    "LiteRT int8": litert.int8,
    "torch eager": pytorch.eager,
    "torch compile": pytorch.compiled,
}


def factories(workload: Workload, threads: int, targets: Sequence[str]) -> dict[str, Factory]:
    """All candidates by name; a target other than the host's is part of the name."""
    found: dict[str, Factory] = {}
    for target in targets:
        for strategy in STRATEGIES if target == "host" else ("int4",):
            name = f"uqfc {strategy}" + ("" if target == "host" else f" {target}")
            found[name] = partial(ours.compiled, workload, threads, strategy, target)
    for name, peer in PEERS.items():
        found[name] = partial(peer, workload, threads)
    return found


def default_targets() -> tuple[str, ...]:
    """The host's, and those of ``OTHER_TARGETS`` that differ from it."""
    return ("host", *(name for name in OTHER_TARGETS if name != host_target().name))


def chosen(found: Mapping[str, Factory], texts: Sequence[str]) -> dict[str, Factory]:
    """Those whose names contain one of the texts; all if there are no texts."""
    return {n: f for n, f in found.items() if not texts or any(text in n for text in texts)}


def measure(
    names: Sequence[str], threads: int, targets: Sequence[str], texts: Sequence[str], seconds: float
) -> report.Report:
    """All figures of the networks of those names, one after the other."""
    results: list[report.Result] = []
    loads: list[float] = []
    plan = Plan.of(seconds, threads)
    for name in names:
        workload = network(name)
        candidates = all_ready(chosen(factories(workload, threads, targets), texts))
        steady = take_turns(candidates, plan)
        cold = take_single_turns(candidates, steady, plan)
        loads.append(load_average())
        macs = multiply_accumulates(workload)
        results.append(report.result(name, macs, candidates, steady, cold))
    peak_name, peak = limits.peak()
    return report.Report(
        "Networks",
        threads,
        tuple(results),
        peak=threads * peak,
        peak_name=peak_name,
        load=max(loads, default=0.0),
    )


def main() -> None:
    """Measure, print, write JSON."""
    parser = argparse.ArgumentParser(description="Latency of networks, taking turns.")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--networks", nargs="*", default=NETWORKS, metavar="NAME")
    parser.add_argument("--candidates", nargs="*", default=(), metavar="TEXT")
    parser.add_argument("--targets", nargs="*", default=default_targets(), metavar="TARGET")
    parser.add_argument("--seconds", type=float, default=6.0, help="for each network (default: 6)")
    parser.add_argument("--prepare", action="store_true", help="only fill the cache")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    a = parser.parse_args()
    if a.prepare:
        for name in a.networks:
            found = chosen(factories(network(name), a.threads, a.targets), a.candidates)
            for candidate in all_ready(found):
                print(name, candidate.name, candidate.reason or "ready", flush=True)
        return
    restrict(a.threads)
    done = measure(a.networks, a.threads, a.targets, a.candidates, a.seconds)
    tables.finish(done, a.json)


if __name__ == "__main__":
    main()
