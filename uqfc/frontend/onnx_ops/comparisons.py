"""Comparisons, logic and selection. Truth values are i1."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from xdsl.dialects.builtin import i1

from uqfc.dialects import nn
from uqfc.errors import ModelError
from uqfc.frontend.builder import Builder
from uqfc.frontend.node import Node
from uqfc.frontend.onnx_ops.registry import converter
from uqfc.frontend.values import UnsupportedUseError, Value, constant, kind

PREDICATES = {
    "Equal": "eq",
    "Greater": "gt",
    "GreaterOrEqual": "ge",
    "Less": "lt",
    "LessOrEqual": "le",
    "Xor": "ne",
}


def comparison(predicate: str) -> Callable[[Node, Builder], Value]:
    def convert(node: Node, b: Builder) -> Value:
        return b.compare(predicate, node.input(0), node.input(1))

    return convert


for _name, _predicate in PREDICATES.items():
    converter(_name)(comparison(_predicate))


@converter("And")
def logical_and(node: Node, b: Builder) -> Value:
    return b.binary(nn.MinimumOp, node.input(0), node.input(1))


@converter("Or")
def logical_or(node: Node, b: Builder) -> Value:
    return b.binary(nn.MaximumOp, node.input(0), node.input(1))


@converter("Not")
def logical_not(node: Node, b: Builder) -> Value:
    return b.compare("eq", node.input(0), constant(np.asarray(False)))


@converter("Where")
def where(node: Node, b: Builder) -> Value:
    condition = node.input(0)
    if kind(condition) != i1:
        raise ModelError(f"the condition has elements {kind(condition)}, expected bool")
    return b.select(condition, node.input(1), node.input(2))


@converter("IsNaN")
def is_nan(node: Node, b: Builder) -> Value:
    x = node.float_in(0)
    return b.compare("ne", x, x)


@converter("IsInf")
def is_inf(node: Node, b: Builder) -> Value:
    """Infinities of the signs that ``detect_negative`` and ``detect_positive`` ask for."""
    x = node.float_in(0)
    negative, positive = node.flag("detect_negative", True), node.flag("detect_positive", True)
    if not (negative or positive):
        raise UnsupportedUseError("at least one sign must be detected")
    if negative and positive:
        return b.compare("eq", b.unary("abs", x), constant(np.inf))
    return b.compare("eq", x, constant(np.inf if positive else -np.inf))
