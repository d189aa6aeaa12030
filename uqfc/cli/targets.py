"""``uqfc targets``: the devices that there are tables for."""

from __future__ import annotations

from typing import Annotated

import typer

from uqfc.cli.console import print_json, print_table
from uqfc.targets import Target, available_targets, load_target, missing_cpu_features

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def targets(as_json: AsJson = False) -> None:
    """List the targets, what they support, and whether they run on this machine."""
    tables = [load_target(name) for name in available_targets()]
    if as_json:
        print_json([{**t.model_dump(mode="json"), "missing_here": _missing(t)} for t in tables])
        return
    print_table(
        ("target", "runs here", "kernels", "weights", "activations", "description"),
        [
            (
                t.name,
                f"no: lacks {' '.join(_missing(t))}" if _missing(t) else "yes",
                t.isa,
                " ".join(t.weight_dtypes),
                " ".join(t.activation_dtypes),
                t.description,
            )
            for t in tables
        ],
    )


def _missing(target: Target) -> list[str]:
    return list(missing_cpu_features(target))
