"""Elementwise ops. All operands are brought into the layout of the images among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from xdsl.dialects.builtin import i1
from xdsl.ir import SSAValue

from uqfc.dialects import nn
from uqfc.dialects.nn import layer_name
from uqfc.dialects.tensors import element_of, shape_of
from uqfc.frontend.uqr.export.functions import function_of
from uqfc.frontend.uqr.export.graph import IMAGE, Graph, Layout, identity
from uqfc.frontend.uqr.export.registry import exporter
from uqfc.frontend.uqr.export.tensors import onnx_type
from uqfc.frontend.values import UnsupportedUseError

BINARY: dict[type[nn.BinaryOp], str] = {
    nn.AddOp: "Add",
    nn.DivOp: "Div",
    nn.MaximumOp: "Max",
    nn.MinimumOp: "Min",
    nn.MulOp: "Mul",
    nn.PowOp: "Pow",
    nn.SubOp: "Sub",
}
LOGICAL: dict[type[nn.BinaryOp], str] = {nn.MaximumOp: "Or", nn.MinimumOp: "And"}
COMPARE = {
    "eq": "Equal",
    "ge": "GreaterOrEqual",
    "gt": "Greater",
    "le": "LessOrEqual",
    "lt": "Less",
}
SPECIAL_EXPONENTS = (0.5, 2.0)
"""The importer reads these scalar exponents as other ops."""


def common_layout(g: Graph, values: Sequence[SSAValue], rank: int) -> Layout:
    """NCHW if one of the values is an image, else the IR's own."""
    images = [v for v in values if v not in g.known and len(shape_of(v)) == 4]
    return IMAGE if rank == 4 and any(g.layout_of(v) == IMAGE for v in images) else identity(rank)


def operand(g: Graph, op: nn.TensorOp, value: SSAValue, layout: Layout) -> str:
    """A tensor that broadcasts in a layout as ``value`` does in the IR."""
    shape = shape_of(value)
    if len(shape) == len(layout):
        return g.get(value, layout)
    if layout == identity(len(layout)) or all(n == 1 for n in shape):
        return g.get(value)
    full = (*[1] * (len(layout) - len(shape)), *shape)
    known = g.known.get(value)
    if known is not None and known.params is None:
        widened = replace(known, array=known.array.reshape(full))
        return g.constant(widened, layout, f"{layer_name(op)}.constant".lstrip("."))
    made = g.apply(op, "Reshape", [g.get(value), g.integers(full)])
    return g.apply(op, "Transpose", [made], perm=layout)


def operands(g: Graph, op: nn.TensorOp) -> tuple[list[str], Layout]:
    """The operands of an op whose result they broadcast to, and their layout."""
    layout = common_layout(g, op.operands, len(shape_of(op.result)))
    return [operand(g, op, v, layout) for v in op.operands], layout


@exporter(nn.UnaryOp)
def unary(g: Graph, op: nn.UnaryOp) -> None:
    (x,), layout = operands(g, op)
    g.define(op.result, function_of(g, op, x, op.fn.data), layout)


@exporter(nn.AddOp, nn.DivOp, nn.MaximumOp, nn.MinimumOp, nn.MulOp, nn.SubOp)
def binary(g: Graph, op: nn.BinaryOp) -> None:
    inputs, layout = operands(g, op)
    kinds = LOGICAL if element_of(op.lhs) == i1 else BINARY
    if type(op) not in kinds:
        raise UnsupportedUseError(f"operands of {element_of(op.lhs)}")
    result = g.apply(op, kinds[type(op)], inputs)
    if isinstance(op, nn.FusableBinaryOp) and op.activation is not None:
        result = function_of(g, op, result, op.activation.data)
    g.define(op.result, result, layout)


@exporter(nn.PowOp)
def power(g: Graph, op: nn.PowOp) -> None:
    """An exponent that would be read as a square or a root gets an axis more than the base has."""
    known = g.known.get(op.rhs)
    array = None if known is None or known.params is not None else known.array
    if array is None or array.size != 1 or float(array.reshape(-1)[0]) not in SPECIAL_EXPONENTS:
        binary(g, op)
        return
    full = (1,) * (len(shape_of(op.result)) + 1)
    exponent = g.initializer("exponent", array.reshape(full), element_of(op.rhs))
    raised = g.apply(op, "Pow", [g.get(op.lhs), exponent])
    g.define(op.result, g.apply(op, "Reshape", [raised, g.integers(shape_of(op.result))]))


@exporter(nn.CompareOp)
def compare(g: Graph, op: nn.CompareOp) -> None:
    inputs, layout = operands(g, op)
    predicate = op.predicate.data
    if predicate != "ne":
        g.define(op.result, g.apply(op, COMPARE[predicate], inputs), layout)
    elif element_of(op.lhs) == i1:
        g.define(op.result, g.apply(op, "Xor", inputs), layout)
    else:
        equal = g.apply(op, "Equal", inputs)
        g.define(op.result, g.apply(op, "Not", [equal]), layout)


@exporter(nn.SelectOp)
def select(g: Graph, op: nn.SelectOp) -> None:
    inputs, layout = operands(g, op)
    g.define(op.result, g.apply(op, "Where", inputs), layout)


@exporter(nn.CastOp)
def cast(g: Graph, op: nn.CastOp) -> None:
    (x,), layout = operands(g, op)
    g.define(op.result, g.apply(op, "Cast", [x], to=onnx_type(element_of(op.result))), layout)
