"""``write_uqr``: a module with quantize points as a UQR file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onnx import ModelProto
from xdsl.dialects.builtin import FloatAttr, ModuleOp
from xdsl.ir import Operation

from uqfc.dialects.nn import layer_name
from uqfc.dialects.quant.decisions import SENSITIVITY, Decision, decision_of
from uqfc.errors import UqfcError
from uqfc.frontend.loading import MAX_PROTOBUF_BYTES, prepare
from uqfc.frontend.uqr.describe import Notes, describe
from uqfc.frontend.uqr.export import export
from uqfc.frontend.uqr.meaning import KEY
from uqfc.frontend.uqr.text import dump_document
from uqfc.version import __version__

SOURCE = "UQR"
PRODUCER = f"uqfc {__version__}"


def write_uqr(
    module: ModuleOp,
    *,
    calibration: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
    name: str = "model",
) -> bytes:
    """The bytes of a valid ONNX model (QDQ, images as NCHW) with the metadata property ``uqr``.

    ``module`` has one function of ``nn`` and ``quant`` ops: a network with its quantize points, as
    before ``pipeline.integer_passes()``, or a float one. Importing the result and running
    ``pipeline.graph_passes()`` gives a module that computes the same integers, to the bit.
    ``calibration`` (``method``, ``samples``, ``data_sha256``) and ``provenance`` (any JSON values)
    become those fields of the document; ``name`` is the graph's.

    Raises UnsupportedError that names the ops which ONNX cannot express, UqrError for what the
    document cannot hold.
    """
    written = export(module, name)
    decisions: dict[str, Decision] = {}
    sensitivity: dict[str, float] = {}
    for op in module.walk():
        decision, share = decision_of(op), op.attributes.get(SENSITIVITY)
        if decision is not None:
            decisions[named(op)] = decision
        if isinstance(share, FloatAttr):
            sensitivity[named(op)] = float(share.value.data)
    method = None if calibration is None else calibration.get("method")
    notes = Notes(written.limits, written.storages, decisions, sensitivity, method)
    origin = {"producer": PRODUCER, **(provenance or {})}
    model = prepare(written.model, SOURCE, None)
    document = describe(model, notes, calibration, origin, SOURCE)
    attach(written.model, dump_document(document))
    return serialized(written.model, SOURCE)


def serialized(proto: ModelProto, source: str) -> bytes:
    """The bytes of a model. UqfcError if they are too many for one file."""
    if proto.ByteSize() > MAX_PROTOBUF_BYTES:
        raise UqfcError(f"{source}: larger than 2 GiB with its weights in one file")
    return proto.SerializeToString(deterministic=True)


def named(op: Operation) -> str:
    """The name that a decision is kept by."""
    if not layer_name(op):
        raise UqfcError(f"{SOURCE}: a {op.name} has a decision but no layer name")
    return layer_name(op)


def attach(model: ModelProto, text: str | None) -> None:
    """Set the metadata property, or remove it."""
    others = [p for p in model.metadata_props if p.key != KEY]
    del model.metadata_props[:]
    model.metadata_props.extend(others)
    if text is not None:
        model.metadata_props.add(key=KEY, value=text)
