"""``uqfc targets``: the devices that there are tables for, and what their tables say."""

from __future__ import annotations

from typing import Annotated, get_args

import typer

from uqfc.cli.console import print_json, print_table, say
from uqfc.cli.options import AsJson
from uqfc.errors import UqfcError
from uqfc.targets import (
    Op,
    Target,
    WeightDtype,
    available_targets,
    load_target,
    missing_cpu_features,
    state_of,
)

_OPS: tuple[str, ...] = get_args(Op)


def targets(
    name: Annotated[
        str | None, typer.Argument(help="One device in full: a name, `host`, or a FILE.toml.")
    ] = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of a table.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List the targets, or show one. For each type of weights: the ops that a device has it for."""
    if schema:
        if name is not None:
            raise UqfcError("--schema is of every table: give it without a name")
        print_json(Target.model_json_schema())
    elif name is not None:
        table = load_target(name)
        if as_json:
            print_json(_document(table))
        else:
            _show(table)
    else:
        tables = [load_target(each) for each in available_targets()]
        if as_json:
            print_json([_document(table) for table in tables])
        else:
            _show_matrix(tables)


def _document(table: Target) -> dict[str, object]:
    """The table, and what depends on this machine."""
    return {
        **table.model_dump(mode="json"),
        "state": str(state_of(table)),
        "missing_here": list(missing_cpu_features(table)),
    }


def _show_matrix(tables: list[Target]) -> None:
    """Initials of the ops that a device has for each type of weights."""
    dtypes: tuple[str, ...] = get_args(WeightDtype)
    rows = [
        (
            table.name,
            state_of(table),
            *(
                "".join(op[0] for op in _OPS if dtype in table.weights_for(op)) or None
                for dtype in dtypes
            ),
        )
        for table in tables
    ]
    print_table(("target", "code", *dtypes), rows)
    initials = ", ".join(f"{op[0]} {op}" for op in _OPS)
    say(f"weights for: {initials}. `uqfc targets NAME` shows one in full")


def _show(table: Target) -> None:
    state, missing = state_of(table), missing_cpu_features(table)
    why = table.no_code or (f"this machine lacks {' '.join(missing)}" if missing else "")
    features = " ".join([table.cpu, *table.features])
    simd = "-" if table.simd is None else f"{table.simd.name}, {table.simd.bits} bits"
    sizes = {kind: size for kind, size in table.memory if size}
    say(f"{table.name}: {table.description}")
    say(f"code      {state}{f': {why}' if why else ''}")
    say(f"device    {'modelled' if table.modelled else 'real'}")
    say(f"LLVM      {table.triple}, {features}; kernels: {table.isa}")
    say(f"SIMD      {simd}")
    say(f"memory    {', '.join(f'{k} {v:,} bytes' for k, v in sizes.items()) or '-'}")
    say("")
    columns = ("ops", "weights", "activations", "scales", "blocks", "cost of a MAC")
    rows = [
        (
            *(" ".join(part) for part in (k.ops, k.weights, k.activations, k.granularity)),
            " ".join(map(str, k.groups)),
            f"{k.cost:g}",
        )
        for k in table.kernels
    ]
    print_table(columns, rows, numeric=columns[5:])
