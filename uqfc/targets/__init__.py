"""Targets: one TOML table a device, checked against ``schema.Target``.

>>> load_target("x86-64").isa
'portable'
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from enum import StrEnum
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from uqfc.errors import TargetError
from uqfc.targets.schema import (
    ActivationDtype,
    Capability,
    Granularity,
    Isa,
    Kernels,
    Memory,
    Op,
    Simd,
    Target,
    WeightDtype,
)
from uqfc_runtime.cpu import AMX, amx_permitted, architecture, cpu_features

__all__ = [
    "ActivationDtype",
    "Capability",
    "Granularity",
    "Isa",
    "Op",
    "State",
    "Target",
    "WeightDtype",
    "available_targets",
    "check_code",
    "host_target",
    "load_target",
    "missing_cpu_features",
    "state_of",
]

HOST = "host"
ARTICLE_HOST = "target_device"
"""Another name of ``host``: what the article that uqfc started from calls any device."""
_HOST_PREFERENCE = ("avx512-amx", "avx512-vnni", "avx-vnni", "x86-64-v3", "x86-64")
_MAX_TABLE_BYTES = 64 * 1024
_TABLES: Mapping[str, type[BaseModel]] = {"kernels": Kernels, "memory": Memory, "simd": Simd}


class State(StrEnum):
    """What can be done for a target, here."""

    RUNS = "runs here"
    COMPILES = "compiles only"
    TABLE = "table only"


def available_targets() -> tuple[str, ...]:
    """Names of the targets that ship with uqfc, sorted."""
    tables = resources.files(__name__).iterdir()
    return tuple(sorted(t.name.removesuffix(".toml") for t in tables if t.name.endswith(".toml")))


def load_target(name_or_path: str | Path) -> Target:
    """The target of that name, ``host``, or the one described by the file at that path.

    A ``Path``, or a string that ends in ``.toml`` or contains a slash, is a path. Raises
    TargetError where the name is unknown or the table is unreadable or malformed.
    """
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or text.endswith(".toml") or "/" in text:
        return _parse(text, _read_table(Path(name_or_path)))
    if text in (HOST, ARTICLE_HOST):
        return host_target()
    names = available_targets()
    if text not in names:
        close = difflib.get_close_matches(text, [*names, HOST])
        hint = f"did you mean {' or '.join(close)}? " if close else ""
        raise TargetError(
            f"unknown target '{text}': {hint}known: {', '.join([*names, HOST])}, "
            "or the path of a .toml file"
        )
    source = resources.files(__name__).joinpath(f"{text}.toml")
    return _parse(source.name, source.read_bytes())


def host_target() -> Target:
    """The best shipped target whose required CPU features this machine has.

    Raises TargetError on a machine that none of them runs on.
    """
    for name in _HOST_PREFERENCE:
        target = load_target(name)
        if not missing_cpu_features(target):
            return target
    raise TargetError(
        f"no target runs on this machine ({architecture()}): known: {', '.join(_HOST_PREFERENCE)}"
    )


def missing_cpu_features(target: Target) -> tuple[str, ...]:
    """What ``target`` needs and this machine lacks, in the table's order; empty if it runs here.

    On another architecture the answer is the name of the architecture that is needed. Asking about
    AMX on a CPU that has it asks the operating system for leave to use it.
    """
    if target.architecture != architecture():
        return (target.architecture,)
    present = cpu_features()
    missing = tuple(feature for feature in target.cpu_features if feature not in present)
    if not missing and AMX in target.cpu_features and not amx_permitted():
        return (f"{AMX} (refused by the operating system)",)
    return missing


def state_of(target: Target) -> State:
    """Whether code is generated for it, and whether that code runs on this machine."""
    if target.no_code is not None:
        return State.TABLE
    return State.COMPILES if missing_cpu_features(target) else State.RUNS


def check_code(target: Target) -> None:
    """TargetError, with what is missing, for a table that no code is generated for."""
    if target.no_code is not None:
        raise TargetError(
            f"target {target.name}: a table only, there is nothing to compile to: {target.no_code}"
        )


def _read_table(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_TABLE_BYTES + 1)
    except (OSError, ValueError) as error:
        raise TargetError(f"{path}: cannot read the target's table: {error}") from error
    if len(data) > _MAX_TABLE_BYTES:
        raise TargetError(f"{path}: a target's table has at most {_MAX_TABLE_BYTES} bytes")
    return data


def _parse(source: str, data: bytes) -> Target:
    try:
        table = tomllib.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise TargetError(f"{source}: not a TOML file: {error}") from error
    return _checked(source, table)


def _checked(source: str, table: Mapping[str, Any]) -> Target:
    try:
        return Target.model_validate(table)
    except ValidationError as error:
        details = error.errors(include_url=False)
        lines = [f"  {_explain(detail)}" for detail in details]
        raise TargetError(f"{source}: malformed target\n" + "\n".join(lines)) from error


def _explain(detail: Mapping[str, Any]) -> str:
    """One line of an error message: the field, what is wrong, what is accepted."""
    place = [_shown(part) for part in detail["loc"]]
    field = ".".join(place) or "table"
    if detail["type"] == "extra_forbidden":
        known = list((_TABLES[place[0]] if len(place) > 1 else Target).model_fields)
        close = difflib.get_close_matches(place[-1], known, n=1)
        hint = f"did you mean '{close[0]}'? " if close else ""
        return f"{field}: unknown field; {hint}accepted: {', '.join(known)}"
    if detail["type"] == "missing":
        return f"{field}: required field is missing"
    given = repr(detail["input"])
    shown = given if len(given) <= 80 else given[:77] + "..."
    given_text = "" if field == "table" else f" (given: {shown})"
    return f"{field}: {detail['msg']}{given_text}"


def _shown(part: object) -> str:
    """A key or an index, which a stranger's file may have of any length and any characters."""
    text = str(part)
    return text if len(text) <= 64 and text.isprintable() else repr(text[:64])
