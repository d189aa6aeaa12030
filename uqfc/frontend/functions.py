"""Replaces calls of functions by their bodies: the model's own, and those that ONNX defines.

ONNX defines many ops by others. Where uqfc has no converter of an op, that definition is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx
from onnx import AttributeProto, ModelProto, inliner

from uqfc.frontend.onnx_ops import CONVERTERS


def inline_functions(model: ModelProto, versions: Mapping[str, int]) -> ModelProto:
    """The model without calls of functions, as far as that is possible.

    What cannot be inlined stays, and is reported as unsupported by the import.
    """
    if model.functions:
        model = inliner.inline_local_functions(model)
    schemas = {
        (n.domain, n.op_type): s
        for n in model.graph.node
        if (s := expandable(n.domain, n.op_type, versions)) is not None
    }
    if not schemas:
        return model
    for node in model.graph.node:
        schema = schemas.get((node.domain, node.op_type))
        if schema is not None:
            node.attribute.extend(missing_defaults(node, schema))
    for key in sorted(schemas):
        model = inlined_op(model, key)
    return model


def inlined_op(model: ModelProto, key: tuple[str, str]) -> ModelProto:
    """The model with one kind of op expanded; unchanged if ONNX's inliner cannot do it."""
    try:
        return inliner.inline_selected_functions(model, [key], inline_schema_functions=True)
    except RuntimeError:  # it knows no types of some inputs, e.g. of omitted optional ones
        return model


def expandable(domain: str, op: str, versions: Mapping[str, int]) -> onnx.defs.OpSchema | None:
    """The schema of an op that has no converter but is a function in ONNX's definition."""
    domain = "" if domain == "ai.onnx" else domain
    version = versions.get(domain)
    if (domain, op) in CONVERTERS or version is None or not onnx.defs.has(op, version, domain):
        return None
    schema = onnx.defs.get_schema(op, version, domain)
    untyped: Any = schema  # the stubs lack these two
    return schema if untyped.has_function or untyped.has_context_dependent_function else None


def missing_defaults(node: onnx.NodeProto, schema: onnx.defs.OpSchema) -> list[AttributeProto]:
    """Defaults of attributes that the node leaves out: the inliner would drop these."""
    given = {a.name for a in node.attribute}
    return [
        a.default_value
        for name, a in schema.attributes.items()
        if name not in given and a.default_value.type != AttributeProto.UNDEFINED
    ]
