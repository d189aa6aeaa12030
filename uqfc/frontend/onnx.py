"""ONNX → ``nn``: walks the graph in order and lets the converters do the ops."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Block, SSAValue
from xdsl.utils.exceptions import VerifyException

from uqfc.dialects.qnn import FORMAT_OF
from uqfc.dialects.tensors import Shape, element_of, numpy_dtype, tensor_type, type_of
from uqfc.errors import ModelError, UnsupportedError, UnsupportedNode
from uqfc.frontend.builder import Builder
from uqfc.frontend.finishing import hint, main_function
from uqfc.frontend.folding import fold_by_reference
from uqfc.frontend.loading import LoadedModel, load_bytes, load_model, prepare
from uqfc.frontend.node import Meant, Node
from uqfc.frontend.onnx_ops import CONVERTERS, Converter
from uqfc.frontend.signature import Signature, check_outputs, resolve_inputs
from uqfc.frontend.tensors import EXACT, element_of_onnx, read_tensor, type_name
from uqfc.frontend.uqr.meaning import Meaning, meaning_of
from uqfc.frontend.values import UnsupportedUseError, Value

DEFAULT_SOURCE = "model"


@dataclass(frozen=True)
class OnnxModel:
    """A model that was read and checked, with static shapes; ``convert`` makes IR of it."""

    loaded: LoadedModel
    signature: Signature
    source: str
    meaning: Meaning

    def convert(self) -> ModuleOp:
        """The module; UnsupportedError with all nodes that cannot be imported."""
        return Importer(self.loaded, self.signature, self.source, self.meaning).run()

    @property
    def inputs(self) -> dict[str, tuple[Shape, np.dtype[Any]]]:
        """Shape and dtype of the arrays that the model takes, by name."""
        types = self.signature.types
        return {
            name: (shape, numpy_dtype(element_of_onnx(types[name])))
            for name, shape in self.signature.shapes.items()
        }

    @property
    def quantized(self) -> bool:
        """Whether a node has to do with quantization."""
        kinds = ("Quantize", "QLinear", "Integer")
        return any(kind in node.op_type for node in self.loaded.nodes for kind in kinds)

    @property
    def history(self) -> tuple[dict[str, Any] | None, dict[str, Any]]:
        """Calibration and provenance as the document has them; the file's SHA-256."""
        calibration: dict[str, Any] | None = None
        provenance: dict[str, Any] = {}
        document = self.meaning.document
        if document is not None and document.calibration is not None:
            calibration = document.calibration.model_dump(exclude_none=True)
        if document is not None and document.provenance is not None:
            provenance = document.provenance.model_dump(exclude_none=True, exclude={"producer"})
        if self.loaded.sha256 is not None:
            provenance["source_sha256"] = self.loaded.sha256
        return calibration, provenance

    def digest(self) -> bytes:
        """SHA-256 of everything that ``convert`` looks at."""
        model = self.loaded
        meaning = None if self.meaning.document is None else self.meaning.document.model_dump()
        head = repr((self.signature, sorted(model.versions.items()), meaning))
        digest = hashlib.sha256(head.encode())
        for messages in (model.nodes, model.inputs, model.outputs, model.initializers.values()):
            digest.update(f"{len(messages)} messages".encode())
            for message in messages:
                data = message.SerializeToString(deterministic=True)
                digest.update(len(data).to_bytes(8, "little"))
                digest.update(data)
        return digest.digest()


def read_onnx(
    model: str | Path | bytes | ModelProto,
    shapes: Mapping[str, Sequence[int]] | None = None,
    source: str | None = None,
) -> OnnxModel:
    """The model, checked. ``shapes`` gives inputs with dynamic dimensions their sizes; ``source``
    is what messages call the model (by default its path).

    Raises ModelError if the model is damaged or inconsistent, UqrError if its document is.
    """
    source = source or source_of(model)
    loaded = loaded_from(model, source)
    signature = resolve_inputs(loaded.inputs, shapes or {}, source)
    return OnnxModel(loaded, signature, source, meaning_of(loaded, source))


def source_of(model: str | Path | bytes | ModelProto) -> str:
    """What messages call a model."""
    return str(model) if isinstance(model, str | Path) else DEFAULT_SOURCE


def loaded_from(model: str | Path | bytes | ModelProto, source: str) -> LoadedModel:
    """The checked model, whatever it is given as. ModelError if it is damaged."""
    if isinstance(model, str | Path):
        return load_model(Path(model))
    if isinstance(model, bytes):
        return load_bytes(model, source, None)
    return prepare(model, source, None)


def import_onnx(
    model: str | Path | bytes | ModelProto,
    shapes: Mapping[str, Sequence[int]] | None = None,
    source: str | None = None,
) -> ModuleOp:
    """A module with ``func.func @main`` that computes what the ONNX model computes.

    Arguments are those of ``read_onnx``. The function's attributes: ``input_names``,
    ``output_names``, ``assumed_batch`` (inputs whose dynamic first dimension became 1), ``retyped``
    (inputs, outputs and constants that are held in another type than in the file).

    Raises ModelError if the model is damaged or inconsistent, UnsupportedError with all nodes
    that cannot be imported.
    """
    return read_onnx(model, shapes, source).convert()


class Importer:
    """The state of one import: values by their ONNX name, the builder, what went wrong."""

    def __init__(
        self, model: LoadedModel, signature: Signature, source: str, meaning: Meaning
    ) -> None:
        self.meaning = meaning
        self.nodes = model.nodes
        self.outputs = model.outputs
        self.versions = model.versions
        self.signature = signature
        self.source = source
        self.initializers = model.initializers
        self.consumers = Counter(i for n in self.nodes for i in n.input)
        self.consumers.update(o.name for o in self.outputs)
        self.layers = model.layers
        self.values: dict[str, Value] = {}
        self.unavailable: set[str] = set()
        self.failed: list[UnsupportedNode] = []
        self.retyped: dict[str, None] = {}

    def run(self) -> ModuleOp:
        """Convert every node; UnsupportedError if some could not be."""
        arguments = [
            tensor_type(shape, element_of_onnx(self.signature.types[name]))
            for name, shape in self.signature.shapes.items()
        ]
        block = Block(arg_types=arguments)
        for argument, name in zip(block.args, self.signature.shapes, strict=True):
            argument.name_hint = hint(name)
            self.values[name] = argument
            self._note_type(f"input {name}", self.signature.types[name])
        builder = Builder(block)
        for node, layer in zip(self.nodes, self.layers, strict=True):
            builder.layer = layer
            self._convert(node, builder)
        if self.failed:
            raise UnsupportedError(self.failed, self.source)
        return self._finish(block, builder)

    def _convert(self, proto: NodeProto, builder: Builder) -> None:
        try:
            outputs = self._outputs(proto, builder)
        except UnsupportedUseError as error:
            self.failed.append(UnsupportedNode(builder.layer, proto.op_type, str(error)))
            outputs = None
        except (ModelError, VerifyException) as error:
            where = f"{self.source}: {proto.op_type} '{builder.layer}'"
            raise ModelError(f"{where}: {error}") from None
        if outputs is None:
            self.unavailable.update(proto.output)
            return
        for name, value in zip(proto.output, outputs, strict=False):
            self.values[name] = value
            if isinstance(value, SSAValue) and value.name_hint is None:
                value.name_hint = hint(name)

    def _outputs(self, proto: NodeProto, builder: Builder) -> Sequence[Value] | None:
        """The node's outputs; None if an input depends on a node that failed."""
        domain = "" if proto.domain == "ai.onnx" else proto.domain
        converter = CONVERTERS.get((domain, proto.op_type))
        if not self.unavailable.isdisjoint(proto.input):
            if converter is None:
                raise UnsupportedUseError(unknown_op(domain))
            return None
        inputs = [self._value(name) if name else None for name in proto.input]
        used = [self.consumers[name] > 0 if name else False for name in proto.output]
        if converter is None:
            folded = fold_by_reference(proto, self.versions.get(domain, 0), inputs)
            if folded is None:
                raise UnsupportedUseError(unknown_op(domain))
            return folded
        version = self.versions.get(domain, 0)
        inputs = [storage(v, converter, builder) for v in inputs]
        node = Node(proto, builder.layer, version, inputs, used, self._meant(proto))
        outputs = converter.convert(node, builder)
        node.check_all_read()
        outputs = [outputs] if not isinstance(outputs, Sequence) else outputs
        node.needs_only_output(len(outputs))
        return outputs

    def _meant(self, proto: NodeProto) -> Meant | None:
        """What the document says of the integers of a cast."""
        names = proto.output if proto.op_type == "QuantizeLinear" else proto.input
        limits = self.meaning.limits.get(names[0]) if names else None
        return None if limits is None else Meant(limits, self.meaning.storages.get(names[0]))

    def _value(self, name: str) -> Value:
        """The value of a name; initializers are read when they are first used."""
        if name not in self.values:
            tensor = self.initializers[name]
            self.values[name] = read_tensor(tensor, f"initializer '{name}'")
            self._note_type("constants", tensor.data_type)
        return self.values[name]

    def _note_type(self, what: str, data_type: int) -> None:
        if data_type not in EXACT and data_type != TensorProto.UNDEFINED:
            element = element_of_onnx(data_type)
            self.retyped[f"{what}: {type_name(data_type)} as {element}"] = None

    def _finish(self, block: Block, builder: Builder) -> ModuleOp:
        builder.layer = ""
        names = [o.name for o in self.outputs]
        results = [self._output(name, builder) for name in names]
        types = {n: type_of(r) for n, r in zip(names, results, strict=True)}
        check_outputs(self.outputs, types, self.source)
        for info in self.outputs:
            self._note_type(f"output {info.name}", info.type.tensor_type.elem_type)
        attributes = {
            "input_names": list(self.signature.shapes),
            "output_names": names,
            "assumed_batch": list(self.signature.assumed_batch),
            "retyped": list(self.retyped),
        }
        self.meaning.annotate(block)
        return main_function(block, results, attributes)

    def _output(self, name: str, builder: Builder) -> SSAValue:
        """A graph output as an ordinary tensor."""
        try:
            value = builder.stored(builder.ssa(self._value(name)))
            if element_of(value) in FORMAT_OF:
                raise UnsupportedUseError("8-bit floats are not supported; dequantize them")
            return value
        except UnsupportedUseError as error:
            nodes = [UnsupportedNode(name, "output", str(error))]
            raise UnsupportedError(nodes, self.source) from None


def unknown_op(domain: str) -> str:
    return "no converter for this op" + (f" of domain '{domain}'" if domain else "")


def storage(value: Value | None, converter: Converter, builder: Builder) -> Value | None:
    """The value as the converter takes it: integers, unless it only moves elements."""
    if not isinstance(value, SSAValue) or converter.moves:
        return value
    return builder.stored(value)
