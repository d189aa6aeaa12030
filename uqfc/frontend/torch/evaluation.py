"""Ops without a converter are evaluated by torch where they depend on constants alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.fx import Node

from uqfc.frontend.torch.program import ELEMENTS, as_constant, dtype_of, shapes_of
from uqfc.frontend.values import Constant, UnsupportedUseError, Value, check_folded

Results = Value | list[Value]

NO_CONVERTER = "no converter for this op"


def is_aten(node: Node) -> bool:
    """Whether the node calls one of torch's own ops."""
    schema: Any = getattr(node.target, "_schema", None)
    return schema is not None and str(schema.name).startswith("aten::")


def evaluated(node: Node, read: Callable[[Node], Results]) -> Results:
    """What the call computes of the constants that ``read`` gives for its arguments.

    UnsupportedUseError if it takes anything else, draws random numbers, or is not torch's own.
    """
    target: Any = node.target
    dtype = dtype_of(node)
    values = [read(each) for each in node.all_input_nodes]
    constant = all(isinstance(value, Constant) for value in values)
    random = is_aten(node) and torch.Tag.nondeterministic_seeded in target.tags
    if not is_aten(node) or not constant or random or dtype not in ELEMENTS:
        raise UnsupportedUseError(NO_CONVERTER)
    for shape in shapes_of(node):
        check_folded(shape, ELEMENTS[dtype])
    arguments: Any = tensors_of(node.args, read)
    named: Any = tensors_of(node.kwargs, read)
    if "device" in named:
        named["device"] = "cpu"
    with torch.no_grad():
        result: Any = target(*arguments, **named)
    if isinstance(result, torch.Tensor):
        return as_constant(result, "the result")
    return [as_constant(part, "the result") for part in result]


def tensors_of(argument: Any, read: Callable[[Node], Results]) -> Any:
    """The argument with tensors in place of nodes."""
    if isinstance(argument, Node):
        value, dtype = read(argument), dtype_of(argument)
        assert isinstance(value, Constant)
        assert dtype is not None
        return torch.tensor(value.array).to(dtype)
    if isinstance(argument, dict):
        return {key: tensors_of(each, read) for key, each in argument.items()}
    if isinstance(argument, list | tuple):
        return [tensors_of(each, read) for each in argument]
    return argument
