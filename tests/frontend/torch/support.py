"""Writes docs/torch-support.md: ``python -m tests.frontend.torch.support``."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from types import ModuleType

import torch

from tests.frontend.torch.cases import EXACT, MOVES, NEAR, case_inputs
from tests.frontend.torch.exported import export
from uqfc.frontend.torch.ops import CONVERTERS, FAMILIES
from uqfc.frontend.torch.program import is_call, op_name

DOCUMENT = Path(__file__).parents[3] / "docs/torch-support.md"

HEADER = """# PyTorch operators

Written by `tests/frontend/torch/support.py` with torch {version}; a test keeps it up to date.

`uqfc.compile` and `uqfc.frontend.torch.import_torch` take a program of torch.export, made by
`torch.export.export(module.eval(), (example,))`, as it is or decomposed to core ATen. The shapes
are the example's; dynamic ones are refused. In-place ops, and writes through views, are made
functional by torch first. Elements are imported as float32, int8, uint8, int32, int64 or bool:
other floats and integers are converted, which the imported function's attribute `retyped` says.
Every call that cannot be imported is named, with its module, in one error; an argument that changes
what a call computes is never ignored.

Every op below is tested against torch: moves and single IEEE operations to the bit, sums and
functions within what the order of a sum, or some units in the last place, can change.

| family | ops of the namespace `aten`, in all overloads |
|---|---|
"""

EXPANDED = """
An op that is not in the table is imported if torch defines it by others that are, or if it depends
on constants alone: then torch evaluates it. Among these are, for instance:

"""


def markdown() -> str:
    """The page."""
    rows = "".join(f"| {summary(f.__doc__)} | {listed(ops_of(f))} |\n" for f in FAMILIES)
    return HEADER.format(version=version()) + rows + EXPANDED + listed(expanded()) + "\n"


def version() -> str:
    """``2.13.0``, without the build."""
    return str(torch.__version__).partition("+")[0]


def ops_of(family: ModuleType) -> list[str]:
    return [op for op, each in CONVERTERS.items() if inspect.getmodule(each.convert) is family]


def summary(doc: str | None) -> str:
    """The start of a module's documentation."""
    return re.split(r"[:.]", " ".join((doc or "").split()))[0]


def listed(ops: list[str]) -> str:
    return ", ".join(f"`{op}`" for op in sorted(ops))


def expanded() -> list[str]:
    """Ops that the tests call and that have no converter."""
    found: set[str] = set()
    for function in (*MOVES.values(), *EXACT.values(), *NEAR.values()):
        nodes = export(function, case_inputs()).graph.nodes
        found.update(op_name(node) for node in nodes if is_call(node))
    internal = {name for name in found if name.startswith("_")}
    return sorted(found - set(CONVERTERS) - internal)


if __name__ == "__main__":
    DOCUMENT.write_text(markdown(), encoding="utf-8")
