"""Reads a model file, and refuses what is damaged, out of bounds or outside its directory."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, checker, helper
from onnx.external_data_helper import load_external_data_for_tensor

from uqfc.errors import ModelError, UnsupportedError, UnsupportedNode
from uqfc.frontend.functions import inline_functions
from uqfc.frontend.tensors import check_tensor

OLDEST_OPSET = 9
MAX_PROTOBUF_BYTES = 2**31 - 1

checks: Any = checker  # its stubs name a type without its parameters


@dataclass(frozen=True)
class LoadedModel:
    """A checked model whose functions are inlined; ``inputs`` are those that the caller gives."""

    nodes: list[NodeProto]
    inputs: list[ValueInfoProto]
    outputs: list[ValueInfoProto]
    initializers: dict[str, TensorProto]
    versions: dict[str, int]
    metadata: dict[str, str]
    sha256: str | None = None
    """Of the file that it was read from."""

    @property
    def layers(self) -> list[str]:
        """What each node is called: its name, with a number if another node has the same."""
        counts: Counter[str] = Counter()
        found: list[str] = []
        for node in self.nodes:
            name = node_name(node)
            counts[name] += 1
            found.append(name if counts[name] == 1 else f"{name}#{counts[name]}")
        return found


def load_model(path: Path) -> LoadedModel:
    """The model of a file, checked, with external data in place.

    Raises ModelError if the file is missing, no ONNX model, damaged or inconsistent.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from None
    return load_bytes(data, str(path), path.parent)


def load_bytes(data: bytes, source: str, directory: Path | None) -> LoadedModel:
    """``load_model`` of a file's content."""
    loaded = prepare(parse_model(data, source), source, directory)
    return replace(loaded, sha256=hashlib.sha256(data).hexdigest())


def parse_model(data: bytes, source: str) -> ModelProto:
    """The protobuf message in ``data``; ModelError if there is none or it is cut short."""
    if len(data) > MAX_PROTOBUF_BYTES:
        raise ModelError(f"{source}: larger than 2 GiB: weights must be stored as external data")
    try:
        model = onnx.load_model_from_string(data)
    except DecodeError:
        raise ModelError(f"{source}: not an ONNX model, or truncated") from None
    if not model.HasField("graph"):
        raise ModelError(f"{source}: not an ONNX model: it has no graph")
    return model


def prepare(model: ModelProto, source: str, directory: Path | None) -> LoadedModel:
    """Check ``model``, load its external data from below ``directory``, inline its functions.

    ``model`` is not changed, but for external data that is loaded.
    """
    check_text(model, source)
    versions = opset_versions(model, source)
    check_sparse(model.graph, source)
    check_names(model.graph, source)
    check_order(model.graph, source)
    for tensor, owner in all_tensors(model):
        what = f"{source}: {owner}"
        check_tensor(tensor, what)
        if tensor.data_location == TensorProto.EXTERNAL:
            load_external(tensor, what, directory)
            check_tensor(tensor, what)
    bare = skeleton(model)
    try:
        checks.check_model(bare)
    except (checker.ValidationError, UnicodeDecodeError) as error:
        raise ModelError(f"{source}: {error}") from None
    initializers = {i.name: i for i in model.graph.initializer}
    return LoadedModel(
        list(inline_functions(bare, versions).graph.node),
        [i for i in model.graph.input if i.name not in initializers],
        list(model.graph.output),
        initializers,
        versions,
        {p.key: p.value for p in model.metadata_props},
    )


def check_text(model: ModelProto, source: str) -> None:
    """ModelError for a name that is not UTF-8, which protobuf gives as bytes."""
    graph = model.graph
    nodes = [*graph.node, *(node for function in model.functions for node in function.node)]
    for node in nodes:
        texts = [node.name, node.op_type, node.domain, *node.input, *node.output]
        check_strings(texts + [a.name for a in node.attribute], f"{source}: a node")
    check_strings([v.name for v in (*graph.input, *graph.output)], f"{source}: a graph value")
    check_strings([t.name for t in graph.initializer], f"{source}: an initializer")
    properties = [text for p in model.metadata_props for text in (p.key, p.value)]
    check_strings([graph.name, *properties], f"{source}: the model's description")


def check_strings(texts: Iterable[object], what: str) -> None:
    for text in texts:
        if not isinstance(text, str):
            raise ModelError(f"{what} has a name that is not UTF-8: {text!r}")


def opset_versions(model: ModelProto, source: str) -> dict[str, int]:
    """Opset by domain; UnsupportedError if ONNX's own is too old or too new."""
    versions = {"" if o.domain == "ai.onnx" else o.domain: o.version for o in model.opset_import}
    newest = onnx.defs.onnx_opset_version()
    version = versions.setdefault("", newest)
    if not OLDEST_OPSET <= version <= newest:
        why = f"opset {version} is not supported; {OLDEST_OPSET} to {newest} are"
        raise UnsupportedError([UnsupportedNode("ai.onnx", "opset", why)], source)
    return versions


def check_sparse(graph: GraphProto, source: str) -> None:
    """UnsupportedError lists the sparse initializers, if there are any."""
    names = [tensor.values.name for tensor in graph.sparse_initializer]
    if names:
        why = "sparse initializers are not supported"
        raise UnsupportedError([UnsupportedNode(n, "initializer", why) for n in names], source)


def check_names(graph: GraphProto, source: str) -> None:
    """Every value is defined once (an initializer may give an input its default)."""
    defined = Counter(i.name for i in graph.input)
    defined.update({i.name for i in graph.initializer} - set(defined))
    defined.update(o for n in graph.node for o in n.output if o)
    initializers = Counter(i.name for i in graph.initializer)
    repeated = [n for counts in (defined, initializers) for n, count in counts.items() if count > 1]
    if repeated:
        raise ModelError(f"{source}: value '{repeated[0]}' is defined more than once")
    for output in graph.output:
        if output.name not in defined:
            raise ModelError(f"{source}: graph output '{output.name}' is never computed")


def check_order(graph: GraphProto, source: str) -> None:
    """Every node comes after those whose results it uses; ModelError says which does not."""
    producers = {o: i for i, n in enumerate(graph.node) for o in n.output if o}
    outside = {i.name for i in graph.input} | {i.name for i in graph.initializer}
    for index, node in enumerate(graph.node):
        for name in node.input:
            if not name or name in outside or producers.get(name, index) < index:
                continue
            label = f"{node.op_type} '{node_name(node)}'"
            if name not in producers:
                raise ModelError(f"{source}: {label} uses '{name}', which nothing computes")
            cycle = find_cycle(graph, producers, index)
            if cycle:
                raise ModelError(f"{source}: the graph has a cycle: {' -> '.join(cycle)}")
            later = node_name(graph.node[producers[name]])
            raise ModelError(
                f"{source}: {label} uses '{name}' before node '{later}' computes it; "
                "nodes must be in topological order"
            )


def find_cycle(graph: GraphProto, producers: dict[str, int], start: int) -> list[str]:
    """Names of the nodes on a cycle through node ``start``, which is first and last, or none."""
    came_from: dict[int, int] = {}
    pending = [start]
    while pending:
        current = pending.pop()
        for name in graph.node[current].input:
            producer = producers.get(name)
            if producer == start:
                path = [start, current]
                while path[-1] != start:
                    path.append(came_from[path[-1]])
                return [node_name(graph.node[i]) for i in path]
            if producer is not None and producer not in came_from:
                came_from[producer] = current
                pending.append(producer)
    return []


def node_name(node: NodeProto) -> str:
    """The node's name, or that of its first output, which is unique too."""
    return node.name or next((o for o in node.output if o), node.op_type)


def all_tensors(model: ModelProto) -> Iterator[tuple[TensorProto, str]]:
    """The tensors of the main graph with what they are called in messages."""
    for tensor in model.graph.initializer:
        yield tensor, f"initializer '{tensor.name}'"
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                owner = f"{node.op_type} '{node_name(node)}'"
                yield attribute.t, f"{owner}: attribute '{attribute.name}'"


def load_external(tensor: TensorProto, what: str, directory: Path | None) -> None:
    """Read the tensor's data from a file below ``directory``."""
    if directory is None:
        raise ModelError(f"{what} is stored in another file; give the model by its path")
    location = next((e.value for e in tensor.external_data if e.key == "location"), "")
    try:
        load_external_data_for_tensor(tensor, str(directory))
    except (OSError, ValueError, checker.ValidationError) as error:
        raise ModelError(f"{what}: external data '{location}' cannot be read: {error}") from None
    tensor.data_location = TensorProto.DEFAULT
    del tensor.external_data[:]


def skeleton(model: ModelProto) -> ModelProto:
    """The model with inputs in place of its initializers: small whatever the weights' size is.

    A shape that an input or output lacks is filled in, as the checker insists on one.
    """
    graph = GraphProto(name=model.graph.name)
    graph.node.extend(model.graph.node)
    graph.input.extend(model.graph.input)
    graph.output.extend(model.graph.output)
    declared = {i.name for i in model.graph.input}
    for tensor in model.graph.initializer:
        if tensor.name not in declared:
            info = helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            graph.input.append(info)
    for info in (*graph.input, *graph.output):
        if info.type.HasField("tensor_type"):
            info.type.tensor_type.shape.SetInParent()
    copy = ModelProto(ir_version=model.ir_version, graph=graph)
    copy.opset_import.extend(model.opset_import)
    copy.functions.extend(model.functions)
    return copy
