"""JSON text to a document and back. What is wrong is said with the op's name and the field."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, cast

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from uqfc.errors import UqrError
from uqfc.frontend.uqr.document import (
    VERSION,
    ActivationQuant,
    Calibration,
    DecisionPart,
    Document,
    Numerics,
    Op,
    WeightQuant,
)

PLACES: dict[str, type[BaseModel]] = {
    "activation_quant": ActivationQuant,
    "calibration": Calibration,
    "decision": DecisionPart,
    "numerics": Numerics,
    "weight_quant": WeightQuant,
}
MOST_BYTES = 1 << 28
MOST_SHOWN = 60
"""Characters of a wrong value that a message quotes."""


def parse_document(text: str | bytes, source: str) -> Document:
    """The document; UqrError that starts with ``source`` and names op and field."""
    return validated(parse_json(text, source), source)


def dump_document(document: Document) -> str:
    """The canonical JSON text."""
    content = document.model_dump(mode="json", exclude_none=True)
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def parse_json(text: str | bytes, source: str) -> Any:
    """JSON values, none of which is given twice."""
    if len(text) > MOST_BYTES:
        raise UqrError(f"{source}: {len(text)} bytes; accepted: at most {MOST_BYTES}")
    try:
        return json.loads(text, object_pairs_hook=without_repeats, parse_constant=refuse_constant)
    except (ValueError, RecursionError) as error:
        raise UqrError(f"{source}: not JSON, or truncated: {error}") from None


def without_repeats(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"a field is given twice: {max(names, key=names.count)!r}")
    return found


def refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number; accepted: finite numbers")


def validated(content: Any, source: str) -> Document:
    """The document that JSON values are; UqrError otherwise."""
    if not isinstance(content, dict):
        raise UqrError(f"{source}: {quoted(content)}; accepted: an object with 'uqr' and 'ops'")
    given = cast("dict[str, Any]", content)
    version = given.get("uqr")
    if version != VERSION:
        raise UqrError(f"{source}: uqr: version {quoted(version)}; accepted: '{VERSION}'")
    try:
        return Document.model_validate(given)
    except ValidationError as error:
        details = error.errors(include_url=False)
        raise UqrError(f"{source}: {explained(details[0], given)}") from None


def explained(detail: ErrorDetails, content: Mapping[str, Any]) -> str:
    """``op 'features.0': weight_quant.dtype: 'int5'; accepted: …``."""
    path, where = list(detail["loc"]), ""
    if len(path) > 1 and path[0] == "ops" and isinstance(path[1], int):
        entry = content["ops"][path[1]]
        name = cast("dict[str, Any]", entry).get("name") if isinstance(entry, dict) else None
        where = f"op {quoted(name)}: " if isinstance(name, str) else f"ops[{path[1]}]: "
        path = path[2:]
    if detail["type"] == "extra_forbidden":
        what = f"unknown field; accepted: {accepted_fields(path, bool(where))}"
    else:
        what = complaint(detail)
    field = ".".join(str(part) for part in path)
    return f"{where}{field}: {what}" if field else f"{where}{what}"


def complaint(detail: ErrorDetails) -> str:
    match detail["type"]:
        case "missing":
            return "is missing"
        case "literal_error" | "enum":
            expected = str(detail.get("ctx", {}).get("expected")).replace(" or ", ", ")
            return f"{quoted(detail['input'])}; accepted: {expected}"
        case "value_error":
            return str(detail.get("ctx", {}).get("error"))
        case _:
            return f"{quoted(detail['input'])}: {detail['msg'][0].lower()}{detail['msg'][1:]}"


def accepted_fields(path: Sequence[int | str], in_op: bool) -> str:
    """Fields of the object in which the last part of a path is none."""
    outside = Op if in_op else Document
    model = PLACES.get(str(path[-2]), outside) if len(path) > 1 else outside
    return ", ".join(model.model_fields)


def quoted(value: object) -> str:
    text = repr(value)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}…"
