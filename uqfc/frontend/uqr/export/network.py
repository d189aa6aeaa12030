"""A whole module as an ONNX graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from onnx import ModelProto, ValueInfoProto, helper
from xdsl.dialects.builtin import ArrayAttr, ModuleOp, StringAttr
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Attribute, Operation, SSAValue

from uqfc.dialects.nn import layer_name
from uqfc.dialects.tensors import element_of, shape_of
from uqfc.errors import UnsupportedError, UnsupportedNode, UqfcError
from uqfc.frontend.uqr.export import casts, elementwise, layers, movement, reductions
from uqfc.frontend.uqr.export.graph import Graph
from uqfc.frontend.uqr.export.registry import EXPORTERS
from uqfc.frontend.uqr.export.tensors import onnx_type
from uqfc.frontend.values import UnsupportedUseError
from uqfc.version import __version__

FAMILIES = (casts, elementwise, layers, movement, reductions)
"""Modules whose import registers exporters."""

OPSET, IR_VERSION = 21, 10
"""The oldest opset with four-bit types, and its file format."""
SOURCE = "UQR"


@dataclass(frozen=True)
class Written:
    """An ONNX model, and what it cannot hold: ranges and two-bit types of its integer tensors."""

    model: ModelProto
    limits: dict[str, tuple[int, int]]
    storages: dict[str, str]


def export(module: ModuleOp, name: str = "model") -> Written:
    """The ONNX model of a module with one function.

    Raises UnsupportedError with all ops that ONNX cannot express.
    """
    functions = [op for op in module.ops if isinstance(op, FuncOp)]
    if len(functions) != 1:
        raise UqfcError(f"{SOURCE}: a module with {len(functions)} functions; accepted: one")
    function = functions[0]
    block = function.body.block
    arguments = names_of(function, "input_names", "input", len(block.args))
    returned = block.last_op
    results = list(returned.operands) if isinstance(returned, ReturnOp) else []
    outputs = names_of(function, "output_names", "output", len(results))
    check_names([*arguments, *outputs])
    g = Graph(block.ops, [*arguments, *outputs])
    for argument, text in zip(block.args, arguments, strict=True):
        g.define(argument, text)
    g.results = dict(zip(results, outputs, strict=True))
    failed: list[UnsupportedNode] = []
    for op in block.ops:
        if not isinstance(op, ReturnOp) and not failed:
            failed += append(g, op)
    if failed:
        raise UnsupportedError(failed, SOURCE)
    for value, text in zip(results, outputs, strict=True):
        g.finish(value, text)
    graph = helper.make_graph(
        g.nodes,
        name,
        [info(n, v) for n, v in zip(arguments, block.args, strict=True)],
        [info(n, v) for n, v in zip(outputs, results, strict=True)],
        list(g.initializers.values()),
    )
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
    model.producer_name, model.producer_version = "uqfc", __version__
    return Written(model, g.limits, g.storages)


def append(g: Graph, op: Operation) -> Sequence[UnsupportedNode]:
    """Add an op to the graph; what is wrong if ONNX has no place for it."""
    export_op = EXPORTERS.get(type(op))
    if export_op is None:
        return [UnsupportedNode(layer_name(op), op.name, "there is no ONNX form of this op")]
    try:
        export_op(g, op)
    except UnsupportedUseError as error:
        return [UnsupportedNode(layer_name(op), op.name, str(error))]
    return []


def names_of(function: FuncOp, attribute: str, prefix: str, count: int) -> list[str]:
    """The names that an importer gave, or numbered ones."""
    given = function.attributes.get(attribute)
    if not isinstance(given, ArrayAttr):
        return [f"{prefix}{i}" for i in range(count)]
    texts = cast("ArrayAttr[Attribute]", given).data
    return [t.data for t in texts if isinstance(t, StringAttr)]


def check_names(names: Sequence[str]) -> None:
    repeated = [n for i, n in enumerate(names) if n in names[:i]]
    if repeated:
        raise UqfcError(f"{SOURCE}: '{repeated[0]}' names two inputs or outputs")


def info(name: str, value: SSAValue) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, onnx_type(element_of(value)), shape_of(value))
