"""``--bit-widths FILE.json``: types of weights by layer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

from uqfc.errors import UqfcError

_MOST_BYTES = 1 << 20


def read_bit_widths(path: Path) -> dict[str, str]:
    """Patterns of layers' names and the types of their weights, in the order of the file.

    UqfcError, which names the file, for what is no JSON object of strings, or too large.
    """
    found = read_object(path, "bit widths", '{"*.dw": "int8", "head": "int4"}')
    for pattern, dtype in found.items():
        if not isinstance(dtype, str):
            raise UqfcError(f"{path}: '{pattern}': accepted: the name of a type, such as int8")
    return found


def read_object(path: Path, what: str, example: str) -> dict[str, Any]:
    """A JSON object. UqfcError, which names the file, for anything else, or what is too large."""
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        raise UqfcError(f"{path}: cannot read the {what}: {error}") from error
    if len(data) > _MOST_BYTES:
        raise UqfcError(f"{path}: {what} are at most {_MOST_BYTES} bytes")
    try:
        found: Any = json.loads(data.decode("utf-8"), object_pairs_hook=_without_repetition)
    except (ValueError, RecursionError) as error:
        raise UqfcError(f"{path}: not a JSON file of {what}: {error}") from error
    if not isinstance(found, dict):
        raise UqfcError(f"{path}: accepted: an object such as {example}")
    return cast("dict[str, Any]", found)


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"'{name}' is there twice")
        found[name] = value
    return found
