"""What a document adds to its graph, after it was compared with it.

Every tensor of integers in the graph is described, and what is described is there and equal: else
an UqrError names the op, the field, and what the graph has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from onnx import numpy_helper
from xdsl.dialects.builtin import FloatAttr, f64
from xdsl.ir import Block

from uqfc.dialects import nn
from uqfc.dialects.quant.decisions import SENSITIVITY, Decision, set_decision
from uqfc.dialects.tensors import Array
from uqfc.errors import UqrError
from uqfc.float8 import FORMATS
from uqfc.frontend.loading import LoadedModel
from uqfc.frontend.uqr.document import (
    PRODUCTS,
    ActivationQuant,
    Document,
    Op,
    WeightQuant,
)
from uqfc.frontend.uqr.dtypes import FLOAT8, STORAGES, Range, default_range, middle, storage_in
from uqfc.frontend.uqr.facts import Fact, Role, facts_of
from uqfc.frontend.uqr.text import parse_document
from uqfc.numerics import F32, dequantize

KEY = "uqr"
"""The metadata property."""


@dataclass(frozen=True)
class Meaning:
    """Ranges and storages by tensor; decisions and sensitivities by layer.

    Empty for plain ONNX. ``storages`` are those that are not the graph's.
    """

    document: Document | None = None
    limits: dict[str, Range] = field(default_factory=dict[str, Range])
    storages: dict[str, str] = field(default_factory=dict[str, str])
    decisions: dict[str, Decision] = field(default_factory=dict[str, Decision])
    sensitivity: dict[str, float] = field(default_factory=dict[str, float])

    def annotate(self, block: Block) -> None:
        """Give the layers of an imported graph the attributes that are known by their names."""
        for op in block.ops:
            if not isinstance(op, nn.Layer):
                continue
            decision, share = self.decisions.get(op.layer), self.sensitivity.get(op.layer)
            if decision is not None:
                set_decision(op, decision)
            if share is not None:
                op.attributes[SENSITIVITY] = FloatAttr(share, f64)


def meaning_of(model: LoadedModel, source: str) -> Meaning:
    """The meaning of a model with the metadata property; UqrError where it is wrong."""
    text = model.metadata.get(KEY)
    if text is None:
        return Meaning()
    where = f"{source}: metadata property '{KEY}'"
    facts = facts_of(model, source)
    return Comparison(parse_document(text, where), model, facts, where).meaning()


class Comparison:
    """Of a document with the facts of its graph."""

    def __init__(
        self, document: Document, model: LoadedModel, facts: list[Fact], where: str
    ) -> None:
        self.document = document
        self.where = where
        self.kinds = {
            name: node.op_type for node, name in zip(model.nodes, model.layers, strict=True)
        }
        self.facts = facts
        self.matched: dict[str, Range] = {}
        self.storages: dict[str, str] = {}

    def meaning(self) -> Meaning:
        self.check_names()
        decisions: dict[str, Decision] = {}
        sensitivity: dict[str, float] = {}
        for op in self.document.ops:
            if op.weight_quant is not None:
                self.compare(op, op.weight_quant, "weight_quant")
            if op.activation_quant is not None:
                self.compare(op, op.activation_quant, "activation_quant")
            if op.decision is not None:
                d = op.decision
                decisions[op.name] = Decision(d.requested, d.chosen, d.reason)
            if op.sensitivity is not None and "int4" in op.sensitivity:
                sensitivity[op.name] = op.sensitivity["int4"]
        self.check_complete()
        return Meaning(self.document, self.matched, self.storages, decisions, sensitivity)

    def fail(self, op: str, field: str, what: str) -> UqrError:
        return UqrError(f"{self.where}: op '{op}': {field}: {what}")

    # --- names ------------------------------------------------------------------------------

    def check_names(self) -> None:
        """Every op is there once, and is what the document calls it."""
        seen: set[str] = set()
        for op in self.document.ops:
            kind = self.kinds.get(op.name)
            if kind is None:
                raise self.fail(op.name, "name", "the graph has no node of this name")
            if op.name in seen:
                raise self.fail(op.name, "name", "is described twice")
            same = op.op == kind or (op.op in PRODUCTS and kind in PRODUCTS)
            if not same:
                raise self.fail(op.name, "op", f"'{op.op}', but the node is a {kind}")
            seen.add(op.name)

    def fact_for(self, op: Op, quant: WeightQuant | ActivationQuant, role: Role) -> Fact:
        """The graph's fact that an entry describes."""
        own = [f for f in self.facts if f.role == role]
        if quant.tensor is None:
            found = [f for f in own if f.op == op.name]
            what = "the graph quantizes nothing of the kind here"
        else:
            found = [f for f in own if f.tensor == quant.tensor]
            what = f"the graph has no quantized tensor '{quant.tensor}' of the kind"
        if not found:
            raise self.fail(op.name, role if quant.tensor is None else f"{role}.tensor", what)
        if found[0].tensor in self.matched:
            raise self.fail(op.name, f"{role}.tensor", f"'{found[0].tensor}' is described twice")
        if found[0].op != op.name:
            what = f"'{found[0].tensor}' belongs to the op '{found[0].op}'"
            raise self.fail(op.name, f"{role}.tensor", what)
        return found[0]

    def check_complete(self) -> None:
        for fact in self.facts:
            if fact.tensor not in self.matched:
                what = f"is missing; the graph quantizes its tensor '{fact.tensor}'"
                raise self.fail(fact.op, fact.role, what)

    # --- values -----------------------------------------------------------------------------

    def compare(self, op: Op, quant: WeightQuant | ActivationQuant, role: Role) -> None:
        fact = self.fact_for(op, quant, role)
        given = quant.range if isinstance(quant, WeightQuant) else quant.integer_range
        accepted = [dtype for dtype in STORAGES | FLOAT8 if storage_in(dtype, fact.storage)]
        storage = storage_in(quant.dtype, fact.storage)
        if storage is None:
            what = f"'{quant.dtype}', but the graph's tensor is {fact.storage}; accepted: "
            raise self.fail(op.name, f"{role}.dtype", what + ", ".join(accepted))
        for name, value, actual in (
            ("granularity", quant.granularity, fact.granularity),
            ("axis", quant.axis, fact.axis if fact.scale.ndim else None),
            ("block_size", quant.block_size, fact.block or None),
        ):
            if value is not None and value != actual:
                raise self.fail(
                    op.name, f"{role}.{name}", f"{value!r}, but the graph has {actual!r}"
                )
        limits = self.limits(op, quant, role, default_range(quant.dtype, storage), given)
        self.check_scale(op, quant, fact)
        self.check_zero_point(op, quant, fact, limits)
        self.check_symmetric(op, quant, role, middle(storage))
        if isinstance(quant, ActivationQuant):
            self.check_real_range(op, quant, fact, limits)
        elif fact.values is not None:
            self.check_values(op, quant, numpy_helper.to_array(fact.values), fact, limits)
        self.matched[fact.tensor] = limits
        if storage != fact.storage:
            self.storages[fact.tensor] = storage

    def limits(
        self,
        op: Op,
        quant: WeightQuant | ActivationQuant,
        role: Role,
        default: Range,
        given: Sequence[int] | None,
    ) -> Range:
        """Least and largest integer."""
        low, high = default if given is None else (given[0], given[1])
        if not default[0] <= low < high <= default[1]:
            name = "range" if isinstance(quant, WeightQuant) else "integer_range"
            what = f"{[low, high]}; accepted: two ascending integers within {list(default)}"
            raise self.fail(op.name, f"{role}.{name}", what)
        return low, high

    def check_scale(self, op: Op, quant: WeightQuant | ActivationQuant, fact: Fact) -> None:
        name, actual = f"{fact.role}.scale", fact.scale.reshape(-1)
        if quant.scale is None:
            raise self.fail(op.name, name, "is missing")
        if len(quant.scale) != actual.size:
            what = f"{len(quant.scale)} values, but the graph has {actual.size}"
            raise self.fail(op.name, name, what)
        same = np.asarray(quant.scale, np.float32) == actual
        if not same.all():
            at = int(np.argmin(same))
            what = f"{quant.scale[at]:.9g} at {at}, but the graph has {actual[at]:.9g}"
            raise self.fail(op.name, name, what)

    def check_zero_point(
        self, op: Op, quant: WeightQuant | ActivationQuant, fact: Fact, limits: Range
    ) -> None:
        name = f"{fact.role}.zero_point"
        actual = np.broadcast_to(fact.zero_point.reshape(-1), fact.scale.size)
        if quant.zero_point is None:
            raise self.fail(op.name, name, "is missing")
        if len(quant.zero_point) != actual.size:
            what = f"{len(quant.zero_point)} values, but there are {actual.size} scales"
            raise self.fail(op.name, name, what)
        for at, value in enumerate(quant.zero_point):
            if not limits[0] <= value <= limits[1]:
                what = f"{value} at {at}; accepted: integers from {limits[0]} to {limits[1]}"
                raise self.fail(op.name, name, what)
        for at, (value, other) in enumerate(zip(quant.zero_point, actual, strict=True)):
            if value != other:
                raise self.fail(op.name, name, f"{value} at {at}, but the graph has {other}")

    def check_symmetric(
        self, op: Op, quant: WeightQuant | ActivationQuant, role: Role, centre: int
    ) -> None:
        symmetric = all(z == centre for z in quant.zero_point or ())
        if quant.symmetric is not None and quant.symmetric != symmetric:
            what = f"{quant.symmetric}, but the zero points are {'' if symmetric else 'not '}all "
            raise self.fail(op.name, f"{role}.symmetric", what + str(centre))

    def check_real_range(self, op: Op, quant: ActivationQuant, fact: Fact, limits: Range) -> None:
        if quant.range is None:
            return
        actual = real_range(fact, limits)
        if actual is None or [np.float32(v) for v in quant.range] != list(actual):
            stands_for = "one range for each scale" if actual is None else str(actual.tolist())
            what = f"{quant.range}, but the integers stand for {stands_for}"
            raise self.fail(op.name, f"{fact.role}.range", what)

    def check_values(
        self, op: Op, quant: WeightQuant, values: Array, fact: Fact, limits: Range
    ) -> None:
        """The integers are in the range, and binary ones are not 0. Codes are all in theirs."""
        if fact.storage in FORMATS:
            return
        low, high = (int(values.min()), int(values.max())) if values.size else limits
        if not limits[0] <= low <= high <= limits[1]:
            what = f"{list(limits)}, but the graph's integers are from {low} to {high}"
            raise self.fail(op.name, "weight_quant.range", what)
        if quant.dtype == "binary" and not np.all(values.astype(np.int32)):
            what = "'binary', but the graph's integers are not all -1 or 1"
            raise self.fail(op.name, "weight_quant.dtype", what)


def real_range(fact: Fact, limits: Range) -> F32 | None:
    """The real values of the least and the largest integer, or number; None with several scales."""
    if fact.scale.size != 1:
        return None
    scale = fact.scale.reshape(())
    if fact.storage in FORMATS:
        return np.asarray(limits, np.float32) * scale
    ends = np.asarray(limits, np.int32)
    return dequantize(ends, scale, fact.zero_point.astype(np.int32).reshape(()))
