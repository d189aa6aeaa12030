"""How far the cost model's choice of kernels is from the best that can be measured.

    python -m benchmarks.cost_model [--networks NAME …] [--targets host …] [--strategies int4 …]
                                    [--json FILE]

Every distinct layer with more than one kernel is compiled with each of them, and these run in turn
on one core (``uqfc.autotune``). A layer counts as good if the kernel that the model takes needs
at most 15 % more time than the fastest. The JSON has all measurements.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import uqfc
from benchmarks.workloads import NETWORKS, network
from uqfc.autotune import distinct_problems, measure
from uqfc.cache import Cache
from uqfc.codegen.isa import isa_for
from uqfc.codegen.lowering import alternatives
from uqfc.measurements import cpu
from uqfc.passes.form_kernels import FormKernelsPass
from uqfc.pipeline import run_passes
from uqfc.targets import load_target

TOLERANCE = 1.15
"""Of the fastest kernel's time."""


@dataclass(frozen=True)
class Layer:
    """One problem: cycles that were measured, and the model's, of each kernel by name."""

    network: str
    target: str
    problem: str
    cycles: Mapping[str, float]
    estimates: Mapping[str, float]

    @property
    def modelled(self) -> str:
        """The kernel that the cost model chooses."""
        return min(self.estimates, key=self.estimates.__getitem__)

    @property
    def fastest(self) -> str:
        return min(self.cycles, key=self.cycles.__getitem__)

    @property
    def ratio(self) -> float:
        """Cycles of the model's choice, in those of the fastest."""
        return self.cycles[self.modelled] / self.cycles[self.fastest]


def layers_of(name: str, target: str, strategy: str) -> list[Layer]:
    """The distinct layers of a network, measured."""
    workload = network(name)
    compiled = uqfc.compile(
        workload.model,
        target=target,
        quant_strategy=strategy,
        calibration_data={workload.input: workload.data},
        calibration_method="minmax",
        shapes={workload.input: workload.shape},
    )
    kernels, isa = compiled.network.clone(), isa_for(load_target(target))
    run_passes(kernels, [FormKernelsPass()])
    problems = distinct_problems(kernels, isa)
    measured = measure(problems, isa, target, Cache())
    return [
        Layer(
            name,
            target,
            problem[0],
            measured[problem],
            {choice.name: choice.estimate for choice in alternatives(launch, isa)},
        )
        for problem, launch in problems.items()
    ]


def document(layers: Sequence[Layer]) -> dict[str, Any]:
    """All measurements, for JSON."""
    return {
        "cpu": cpu(),
        "layers": [
            {
                "network": layer.network,
                "target": layer.target,
                "problem": layer.problem,
                "cycles": dict(layer.cycles),
            }
            for layer in layers
        ],
    }


def show(layers: Sequence[Layer]) -> None:
    """A line for each layer that the model does not do well, and the summary."""
    console = Console()
    table = Table(title=f"Not within {TOLERANCE - 1:.0%} of the fastest kernel", box=None)
    for column in ("network", "target", "layer", "model", "fastest", "ratio"):
        table.add_column(column)
    bad = [layer for layer in layers if layer.ratio > TOLERANCE]
    for layer in bad:
        cells = (layer.network, layer.target, layer.problem, layer.modelled, layer.fastest)
        table.add_row(*cells, f"{layer.ratio:.2f}")
    if bad:
        console.print(table)
    good = len(layers) - len(bad)
    console.print(f"{good} of {len(layers)} layers ({good / len(layers):.1%}) are within it")


def main() -> None:
    """Measure, print, write JSON."""
    parser = argparse.ArgumentParser(description="The cost model against measurements.")
    parser.add_argument("--networks", nargs="*", default=NETWORKS, metavar="NAME")
    parser.add_argument("--targets", nargs="*", default=("host",), metavar="TARGET")
    parser.add_argument("--strategies", nargs="*", default=("int4", "int8"), metavar="STRATEGY")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the measurements there")
    a = parser.parse_args()
    layers = [
        layer
        for target in a.targets
        for name in a.networks
        for strategy in a.strategies
        for layer in layers_of(name, target, strategy)
    ]
    show(layers)
    if a.json is not None:
        a.json.write_text(json.dumps(document(layers), indent=1) + "\n")


if __name__ == "__main__":
    main()
