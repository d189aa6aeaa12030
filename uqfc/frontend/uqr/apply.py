"""A document beside a float ONNX model: its ranges, scales and weight types put into the graph.

The result is an ordinary UQR model. What the document does not name stays float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from xdsl.dialects.builtin import f32

from uqfc.dialects.quant import STORAGE_ELEMENTS
from uqfc.dialects.quant.decisions import Decision
from uqfc.dialects.tensors import Array
from uqfc.errors import ModelError, UqrError
from uqfc.frontend.loading import node_name, prepare
from uqfc.frontend.uqr.convert import read_proto
from uqfc.frontend.uqr.describe import Notes, describe
from uqfc.frontend.uqr.document import PRODUCTS, ActivationQuant, Document, Op, WeightQuant
from uqfc.frontend.uqr.dtypes import Range
from uqfc.frontend.uqr.export.graph import unique
from uqfc.frontend.uqr.export.tensors import tensor
from uqfc.frontend.uqr.facts import Gatherer
from uqfc.frontend.uqr.parameters import Parameters, parameters_of
from uqfc.frontend.uqr.text import dump_document, parse_document, validated
from uqfc.frontend.uqr.writer import attach
from uqfc.numerics import quantize

OLDEST_OPSET = 13
"""The first with scales along an axis."""
INPUT = "Input"
"""The op type of an entry for an input of the graph."""


def apply_uqr(
    model: str | Path | bytes | ModelProto, document: str | Path | Mapping[str, Any]
) -> ModelProto:
    """The quantized model of a float one and a document: a JSON file's path, or its content.

    ``activation_quant`` needs ``scale`` and ``zero_point``, or the real ``range``; ``weight_quant``
    needs ``scale``, and ``zero_point`` unless it is symmetric. An entry with the name of a graph's
    input and the op "Input" quantizes that input.

    Raises ModelError for a damaged model, UqrError where the document is wrong or does not fit it.
    """
    if isinstance(model, ModelProto):
        proto, source, directory = ModelProto(), "model", None
        proto.CopyFrom(model)
    else:
        proto, source, directory = read_proto(model)
    if isinstance(document, Mapping):
        return Applier(proto, source, directory, validated(dict(document), "uqr"), "uqr").run()
    try:
        text = Path(document).read_bytes()
    except OSError as error:
        raise UqrError(f"{document}: cannot be read: {error.strerror}") from None
    name = str(document)
    return Applier(proto, source, directory, parse_document(text, name), name).run()


class Applier:
    """Inserts casts into a graph, one entry after the other."""

    def __init__(
        self, proto: ModelProto, source: str, directory: Path | None, document: Document, where: str
    ) -> None:
        self.loaded = prepare(proto, source, directory)
        if self.loaded.versions[""] < OLDEST_OPSET:
            version = self.loaded.versions[""]
            raise ModelError(f"{source}: opset {version}; accepted: {OLDEST_OPSET} and later")
        self.proto, self.source, self.document, self.where = proto, source, document, where
        self.graph = proto.graph
        for node in self.graph.node:
            node.name = node_name(node)
        self.nodes = {node_name(n): n for n in self.graph.node}
        self.gatherer = Gatherer(self.loaded)
        self.taken = {o for n in self.graph.node for o in n.output}
        self.taken |= {i.name for i in (*self.graph.input, *self.graph.initializer)}
        self.limits: dict[str, Range] = {}
        self.storages: dict[str, str] = {}

    def run(self) -> ModelProto:
        seen: set[str] = set()
        for op in self.document.ops:
            if op.name in seen:
                raise self.fail(op, "name: is described twice")
            seen.add(op.name)
            node = self.node_of(op)
            if op.weight_quant is not None and op.weight_quant.dtype != "float32":
                self.quantize_weight(op, op.weight_quant, node)
            if op.activation_quant is not None and op.activation_quant.dtype != "float32":
                self.quantize_value(op, op.activation_quant, node)
        if not self.limits:
            raise UqrError(
                f"{self.where}: ops: quantize nothing; accepted: at least one op that is"
            )
        return self.described()

    def described(self) -> ModelProto:
        """The model with the document of what its graph is now."""
        decisions = {
            op.name: Decision(op.decision.requested, op.decision.chosen, op.decision.reason)
            for op in self.document.ops
            if op.decision is not None
        }
        sensitivity = {
            op.name: op.sensitivity["int4"]
            for op in self.document.ops
            if op.sensitivity is not None and "int4" in op.sensitivity
        }
        given = self.document.model_dump(include={"calibration", "provenance"}, exclude_none=True)
        document = describe(
            prepare(self.proto, self.source, None),
            Notes(self.limits, self.storages, decisions, sensitivity),
            given.get("calibration"),
            given.get("provenance"),
            self.where,
        )
        attach(self.proto, dump_document(document))
        return self.proto

    def fail(self, op: Op, what: str) -> UqrError:
        return UqrError(f"{self.where}: op '{op.name}': {what}")

    def node_of(self, op: Op) -> NodeProto | None:
        """The node of an entry; None for an input."""
        node = self.nodes.get(op.name)
        if op.op == INPUT and op.name in {i.name for i in self.loaded.inputs}:
            return None
        if node is None:
            raise self.fail(op, f"name: {self.source} has no node of this name")
        kind = node.op_type
        if op.op != kind and not (op.op in PRODUCTS and kind in PRODUCTS):
            raise self.fail(op, f"op: '{op.op}', but the node is a {kind}")
        return node

    # --- weights ----------------------------------------------------------------------------

    def quantize_weight(self, op: Op, quant: WeightQuant, node: NodeProto | None) -> None:
        field = "weight_quant"
        initializers = {t.name: t for t in self.graph.initializer}
        held = None if node is None or len(node.input) < 2 else initializers.get(node.input[1])
        kinds = ("Conv", *PRODUCTS)
        if node is None or held is None or node.op_type not in kinds:
            raise self.fail(op, f"{field}: accepted: ops with constant weights: {', '.join(kinds)}")
        if held.data_type != TensorProto.FLOAT:
            raise self.fail(op, f"{field}: the weights are not float32")
        if any(u[0].op_type == "BatchNormalization" for u in self.readers(node.output[0])):
            what = "a BatchNormalization follows, which would scale the weights: fold it first"
            raise self.fail(op, f"{field}: {what}")
        weight: Array = numpy_helper.to_array(held)
        transposed = any(a.name == "transB" and a.i for a in node.attribute)
        axis = 0 if node.op_type == "Conv" or transposed else 1
        if node.op_type == "MatMul" and weight.ndim != 2:
            raise self.fail(op, f"{field}: weights of rank {weight.ndim}; accepted: matrices")
        per_channel = quant.granularity == "per_channel"
        count = weight.shape[axis] if per_channel else 1
        p = parameters_of(self.fail, op, quant, count)
        view = [-1 if per_channel and i == axis else 1 for i in range(weight.ndim)]
        scale, zero = p.scale.reshape(view), p.zero_point.reshape(view)
        q = quantize(weight, scale, zero, *p.limits)
        if quant.dtype == "binary":
            q = np.where(weight < 0, -1, 1).astype(np.int32)
        name = unique(f"{op.name}.quantized", self.taken)
        self.graph.initializer.append(tensor(name, q, STORAGE_ELEMENTS[p.storage]))
        cast = self.cast("DequantizeLinear", name, p, name, axis if per_channel else None)
        self.graph.node.insert(0, cast)
        node.input[1] = cast.output[0]
        self.limits[name], self.storages[name] = p.limits, p.storage

    # --- activations ------------------------------------------------------------------------

    def quantize_value(self, op: Op, quant: ActivationQuant, node: NodeProto | None) -> None:
        """Casts behind the op's residual and activation; everyone reads what comes out of them."""
        if quant.granularity not in (None, "per_tensor"):
            what = f"granularity: '{quant.granularity}'; accepted: 'per_tensor'"
            raise self.fail(op, f"activation_quant.{what}")
        p = parameters_of(self.fail, op, quant, 1)
        name = op.name if node is None else self.last_part(node).output[0]
        produced = next((n for n in self.graph.node if name in n.output), None)
        readers = [n for n in self.graph.node if name in n.input]
        is_output = any(o.name == name for o in self.graph.output)
        real = name
        if is_output and produced is not None:
            real = unique(f"{name}.real", self.taken)
            produced.output[list(produced.output).index(name)] = real
        quantized = self.cast("QuantizeLinear", real, p, f"{op.name}.activation")
        target = name if is_output and produced is not None else None
        restored = self.cast("DequantizeLinear", quantized.output[0], p, real, None, target)
        at = 0 if produced is None else list(self.graph.node).index(produced) + 1
        for cast in (restored, quantized):
            self.graph.node.insert(at, cast)
        for reader in readers:
            for index, value in enumerate(reader.input):
                if value == name:
                    reader.input[index] = restored.output[0]
        self.limits[quantized.output[0]] = p.limits

    def readers(self, name: str) -> list[tuple[NodeProto, str]]:
        return self.gatherer.consumers.get(name, [])

    def last_part(self, node: NodeProto) -> NodeProto:
        """The node that computes what the layer gives: its own, or that of its activation."""
        name = node_name(node)
        parts = [
            n for n, label in self.gatherer.nodes if self.gatherer.layer_of((n, label))[1] == name
        ]
        return self.nodes.get(parts[-1].name, node) if parts else node

    def cast(
        self,
        kind: str,
        source: str,
        p: Parameters,
        base: str,
        axis: int | None = None,
        target: str | None = None,
    ) -> NodeProto:
        """A node with its parameters; per tensor without an axis."""
        shape = () if axis is None else (-1,)
        names = [unique(f"{base}_{part}", self.taken) for part in ("scale", "zero_point")]
        element = STORAGE_ELEMENTS[p.storage]
        self.graph.initializer.append(tensor(names[0], p.scale.reshape(shape), f32))
        self.graph.initializer.append(tensor(names[1], p.zero_point.reshape(shape), element))
        output = target or unique(f"{base}/{kind}", self.taken)
        name = unique(f"{base}/{kind}", self.taken) if target else output
        node = helper.make_node(kind, [source, *names], [output], name)
        if axis is not None:
            node.attribute.append(helper.make_attribute("axis", axis))
        return node
