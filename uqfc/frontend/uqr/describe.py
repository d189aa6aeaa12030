"""The document of a graph: its facts, and what is known beyond them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import numpy_helper

from uqfc.dialects.quant import STORAGE_RANGES
from uqfc.dialects.quant.decisions import Decision
from uqfc.frontend.loading import LoadedModel
from uqfc.frontend.uqr.document import VERSION, Document, shortest
from uqfc.frontend.uqr.dtypes import Range, dtype_of, middle
from uqfc.frontend.uqr.facts import Fact, facts_of
from uqfc.frontend.uqr.meaning import real_range
from uqfc.frontend.uqr.text import validated


@dataclass(frozen=True)
class Notes:
    """What a graph cannot say: ranges and storages by tensor; the rest by layer."""

    limits: Mapping[str, Range] = field(default_factory=dict[str, Range])
    storages: Mapping[str, str] = field(default_factory=dict[str, str])
    decisions: Mapping[str, Decision] = field(default_factory=dict[str, Decision])
    sensitivity: Mapping[str, float] = field(default_factory=dict[str, float])
    method: str | None = None
    """How the ranges of activations were found."""


def describe(
    model: LoadedModel,
    notes: Notes,
    calibration: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
    source: str = "uqr",
) -> Document:
    """The document. UqrError for calibration or provenance that do not fit the schema."""
    kinds = {name: n.op_type for n, name in zip(model.nodes, model.layers, strict=True)}
    entries: dict[str, dict[str, Any]] = {}
    for fact in facts_of(model, source):
        entry = entries.setdefault(fact.op, {})
        entry[fact.role] = quantization(fact, notes)
    for name, decision in notes.decisions.items():
        entries.setdefault(name, {})["decision"] = {
            "requested": decision.requested,
            "chosen": decision.chosen,
            "reason": str(decision.reason),
        }
    for name, share in notes.sensitivity.items():
        entries.setdefault(name, {})["sensitivity"] = {"int4": share}
    content = {
        "uqr": VERSION,
        "ops": [
            {"name": name, "op": kind, **entries[name]}
            for name, kind in kinds.items()
            if name in entries
        ],
        "calibration": None if calibration is None else dict(calibration),
        "provenance": None if provenance is None else dict(provenance),
    }
    return validated(content, source)


def quantization(fact: Fact, notes: Notes) -> dict[str, Any]:
    storage = notes.storages.get(fact.tensor, fact.storage)
    limits = notes.limits.get(fact.tensor, STORAGE_RANGES[storage])
    decision = notes.decisions.get(fact.op)
    dtype = dtype_of(storage, limits, is_binary(fact, decision))
    zero = np.broadcast_to(fact.zero_point.reshape(-1), fact.scale.size)
    found: dict[str, Any] = {
        "tensor": fact.tensor,
        "dtype": dtype,
        "symmetric": bool((zero == middle(storage)).all()),
        "granularity": fact.granularity,
        "scale": [float(v) for v in fact.scale.reshape(-1)],
        "zero_point": [int(v) for v in zero],
    }
    if fact.granularity != "per_tensor":
        found["axis"] = fact.axis
    if fact.block:
        found["block_size"] = fact.block
    if fact.role == "weight_quant":
        return found | {"range": list(limits)}
    real = real_range(fact, limits)
    return found | {
        "calibration_method": notes.method,
        "integer_range": list(limits),
        "range": None if real is None else [shortest(v) for v in real],
    }


def is_binary(fact: Fact, decision: Decision | None) -> bool:
    """Whether the layer got binary weights, which hold no 0."""
    if decision is None or decision.chosen != "binary" or fact.values is None:
        return False
    return bool(np.all(numpy_helper.to_array(fact.values).astype(np.int32)))
