"""A program of ``torch.export`` as data: functional calls, named inputs, constants and outputs."""

from __future__ import annotations

import operator
import warnings
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch.export import ExportedProgram, default_decompositions
from torch.export.graph_signature import InputKind, OutputKind, TensorArgument
from torch.fx import Node
from torch.utils import _pytree as pytree
from xdsl.dialects.builtin import f32, i1, i32, i64
from xdsl.ir import Attribute

from uqfc.dialects.tensors import Array, Shape, i8, numpy_dtype, ui8
from uqfc.errors import ModelError, UnsupportedError, UnsupportedNode
from uqfc.frontend.torch.ops import CONVERTERS
from uqfc.frontend.values import Constant, check_size

ELEMENTS: dict[torch.dtype, Attribute] = {
    torch.float32: f32,
    torch.float64: f32,
    torch.float16: f32,
    torch.bfloat16: f32,
    torch.int8: i8,
    torch.uint8: ui8,
    torch.int16: i32,
    torch.int32: i32,
    torch.int64: i64,
    torch.bool: i1,
}
"""The element type that a dtype is imported as: floats as float32, integers widened."""

EXACT = (torch.float32, torch.int8, torch.uint8, torch.int32, torch.int64, torch.bool)
"""Types that are imported as they are."""

CONSTANTS = (InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR)


@dataclass(frozen=True)
class Program:
    """A program whose calls have no side effects.

    ``nodes`` are those that the outputs depend on, ``calls`` the ops among them. ``inputs`` (the
    tensors that the caller gives) and ``constants`` are placeholders of the graph, with their
    names; ``parameters`` and ``buffers`` are those constants that are such of the module.
    """

    nodes: list[Node]
    calls: list[Node]
    inputs: dict[Node, str]
    constants: dict[Node, str]
    parameters: frozenset[Node]
    buffers: frozenset[Node]
    outputs: dict[str, Node]
    tensors: Mapping[str, Any]

    def users(self, node: Node) -> list[Node]:
        """The calls that read what ``node`` computes, and the output if it does."""
        return [user for user in node.users if user in self.live]

    @cached_property
    def live(self) -> frozenset[Node]:
        return frozenset(self.nodes)


def read_program(program: ExportedProgram, source: str) -> Program:
    """The program in functional form, in ops that have converters as far as torch can tell how.

    UnsupportedError if it writes to buffers or inputs, or returns what is no tensor.
    """
    program = expanded(program)
    nodes: list[Node] = list(program.graph.nodes)
    signature = program.graph_signature
    placeholders = [node for node in nodes if node.op == "placeholder"]
    inputs: dict[Node, str] = {}
    constants: dict[Node, str] = {}
    kinds: dict[InputKind, set[Node]] = defaultdict(set)
    for node, spec in zip(placeholders, signature.input_specs, strict=True):
        if spec.kind in CONSTANTS:
            constants[node] = str(spec.target)
        elif spec.kind == InputKind.USER_INPUT and isinstance(spec.arg, TensorArgument):
            inputs[node] = spec.arg.name
        kinds[spec.kind].add(node)
    tensors = {**program.constants, **program.state_dict}
    outputs = named_outputs(program, nodes[-1], source)
    used = live(nodes)
    calls = [node for node in used if is_call(node)]
    parameters, buffers = (frozenset(kinds[k]) for k in (InputKind.PARAMETER, InputKind.BUFFER))
    return Program(used, calls, inputs, constants, parameters, buffers, outputs, tensors)


def expanded(program: ExportedProgram) -> ExportedProgram:
    """The same program without in-place ops, and without ops that have no converter if torch
    defines them by others (but for those that depend on no input: they are evaluated)."""
    program = decomposed(program, {})
    definitions: Any = default_decompositions()
    tried: set[Any] = set()
    while True:
        unknown = {n.target for n in depending(program) if op_name(n) not in CONVERTERS} - tried
        table = {op: definitions[op] for op in unknown if op in definitions}
        if not table:
            return program
        tried |= unknown
        program = decomposed(program, table)


def decomposed(program: ExportedProgram, table: dict[Any, Any]) -> ExportedProgram:
    """``run_decompositions`` without the warnings about what torch does therein."""
    run: Any = program.run_decompositions
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return run(table)


def depending(program: ExportedProgram) -> list[Node]:
    """The calls that some result depends on, and that depend on an input of the caller."""
    user = set(program.graph_signature.user_inputs)
    found: set[Node] = set()
    used = live(list(program.graph.nodes))
    for node in used:
        if node.name in user or not found.isdisjoint(node.all_input_nodes):
            found.add(node)
    return [node for node in used if node in found and is_call(node)]


def live(nodes: list[Node]) -> list[Node]:
    """The placeholders, and what the output depends on."""
    needed: set[Node] = set()
    for node in reversed(nodes):
        if node.op in ("placeholder", "output") or node in needed:
            needed.add(node)
            needed.update(node.all_input_nodes)
    return [node for node in nodes if node in needed]


def is_call(node: Node) -> bool:
    return node.op not in ("placeholder", "output") and not is_part(node)


def is_part(node: Node) -> bool:
    """Whether the node selects one of several results of a call."""
    return node.target is operator.getitem


def op_name(node: Node) -> str:
    """``conv2d`` of a call of any overload of ``aten::conv2d``; the target's name otherwise."""
    schema: Any = getattr(node.target, "_schema", None)
    name = str(schema.name if schema is not None else getattr(node.target, "__name__", node.target))
    return name.removeprefix("aten::")


def overload_name(node: Node) -> str:
    """``aten.conv2d.default``: what the node calls, as torch prints it."""
    return str(node.target) if hasattr(node.target, "_schema") else op_name(node)


def arguments_of(node: Node) -> dict[str, Any]:
    """The arguments that a call gives, by their names in the op's schema."""
    schema: Any = getattr(node.target, "_schema", None)
    names = [] if schema is None else [a.name for a in schema.arguments]
    return {**dict(zip(names, node.args, strict=False)), **node.kwargs}


def defaults_of(node: Node) -> dict[str, Any]:
    """The defaults of the op's arguments."""
    schema: Any = getattr(node.target, "_schema", None)
    return {a.name: a.default_value for a in schema.arguments if a.has_default_value()}


def named_outputs(program: ExportedProgram, output: Node, source: str) -> dict[str, Node]:
    """The tensors that the module returns, in order; those that are None are left out.

    A single result is called ``output``, parts of a dictionary by their keys, of a sequence by
    their positions: ``output_0``, ``logits``, ``features.1``.
    """
    failed: list[UnsupportedNode] = []
    found: list[Node | None] = []
    specs = program.graph_signature.output_specs
    values: Any = output.args[0]
    for spec, value in zip(specs, values, strict=True):
        if spec.kind != OutputKind.USER_OUTPUT:
            why = f"the module writes to '{spec.target}'; export it in eval mode"
            failed.append(UnsupportedNode(str(spec.target), spec.kind.name.lower(), why))
        elif value is not None and not isinstance(value, Node):
            why = f"the result {value!r} is no tensor"
            failed.append(UnsupportedNode(str(value), "output", why))
        else:
            found.append(value)
    if failed:
        raise UnsupportedError(failed, source)
    structure: Any = program.call_spec.out_spec
    tree: Any = pytree.tree_unflatten(range(len(found)), structure)
    paths: list[Any] = [path for path, _ in pytree.tree_flatten_with_path(tree)[0]]
    named = zip(paths, found, strict=True)
    return {output_name(path): node for path, node in named if node is not None}


def output_name(path: tuple[Any, ...]) -> str:
    """``logits.0`` of the keys of a leaf in the structure that the module returns."""
    keys = [str(getattr(k, "key", getattr(k, "idx", getattr(k, "name", k)))) for k in path]
    if not keys:
        return "output"
    return ".".join(keys if not keys[0].isdigit() else [f"output_{keys[0]}", *keys[1:]])


def dtype_of(node: Node) -> torch.dtype | None:
    """The dtype of what a node computes (of the first, if that is several); None for no tensor."""
    value: Any = node.meta.get("val")
    value = value[0] if isinstance(value, list | tuple) and value else value
    return value.dtype if isinstance(value, torch.Tensor) else None


def shapes_of(node: Node) -> list[Shape]:
    """Shapes of the tensors that a node computes, with -1 for a size that is not static."""
    value: Any = node.meta.get("val")
    values: list[Any] = list(value) if isinstance(value, list | tuple) else [value]
    sizes: list[list[Any]] = [list(v.shape) for v in values if isinstance(v, torch.Tensor)]
    return [tuple(d if isinstance(d, int) else -1 for d in each) for each in sizes]


def as_constant(tensor: torch.Tensor, what: str) -> Constant:
    """The tensor's values in the element type they are imported as."""
    if tensor.dtype not in ELEMENTS:
        raise ModelError(f"{what}: elements of type {tensor.dtype} are not supported")
    element = ELEMENTS[tensor.dtype]
    check_size(tuple(tensor.shape), element, what)
    values = tensor.detach().cpu()
    if element == f32:
        values = values.to(torch.float32)
    array: Array = values.numpy().astype(numpy_dtype(element))
    return Constant(array, element)
