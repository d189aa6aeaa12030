"""Elementwise float32 (and integer) ops of the ``nn`` dialect."""

from __future__ import annotations

import operator
from collections.abc import Callable

import torch
from torch import Tensor
from xdsl.dialects.builtin import f32, i1, i32, i64

from uqfc import elementary_special
from uqfc.dialects import nn
from uqfc.dialects.nn.base import FnAttr
from uqfc.dialects.tensors import element_of
from uqfc.elementary import UNARY
from uqfc.qat.integer.arithmetic import evaluate
from uqfc.qat.integer.registry import Step, aligned, makes

Binary = Callable[[Tensor, Tensor], Tensor]


def apply_fn(attribute: FnAttr | None, x: Tensor) -> Tensor:
    """The function of an ``nn.fn`` attribute; ``x`` itself without one."""
    if attribute is None:
        return x
    return evaluate(UNARY[attribute.data.name].f32, x, *attribute.data.params)


@makes(nn.UnaryOp)
def unary(op: nn.UnaryOp, device: torch.device) -> Step:
    del device
    return Step(lambda x: apply_fn(op.fn, x), (op.x,))


def power(a: Tensor, b: Tensor) -> Tensor:
    x, y = torch.broadcast_tensors(a, b)
    return evaluate(elementary_special.power, x.contiguous(), y.contiguous())


ON_FLOATS: dict[type[nn.BinaryOp], Binary] = {
    nn.AddOp: torch.add,
    nn.SubOp: torch.sub,
    nn.MulOp: torch.mul,
    nn.DivOp: torch.div,
    nn.PowOp: power,
    nn.MaximumOp: lambda a, b: torch.where(b > a, b, a),
    nn.MinimumOp: lambda a, b: torch.where(b < a, b, a),
}
ON_INTEGERS = {kind: ON_FLOATS[kind] for kind in ON_FLOATS if kind not in (nn.DivOp, nn.PowOp)}
"""Their sums and products wrap round."""

COMPARISONS: dict[str, Binary] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
}


@makes(*ON_FLOATS)
def binary(op: nn.BinaryOp, device: torch.device) -> Step | None:
    del device
    element = element_of(op.lhs)
    if element not in (f32, i32, i64):
        return None
    function = (ON_FLOATS if element == f32 else ON_INTEGERS).get(type(op))
    if function is None:
        return None
    activation = op.activation if isinstance(op, nn.FusableBinaryOp) else None

    def run(lhs: Tensor, rhs: Tensor) -> Tensor:
        return apply_fn(activation, function(*aligned(lhs, rhs)))

    return Step(run, (op.lhs, op.rhs))


@makes(nn.CompareOp)
def compare(op: nn.CompareOp, device: torch.device) -> Step:
    del device
    function = COMPARISONS[op.predicate.data]
    return Step(lambda lhs, rhs: function(*aligned(lhs, rhs)), (op.lhs, op.rhs))


@makes(nn.SelectOp)
def select(op: nn.SelectOp, device: torch.device) -> Step:
    del device
    operands = (op.condition, op.then, op.other)
    return Step(lambda *values: torch.where(*aligned(*values)), operands)


@makes(nn.CastOp)
def cast(op: nn.CastOp, device: torch.device) -> Step | None:
    """To i1, and from float to float; others in the interpreter, whose rules for them are many."""
    del device
    if element_of(op.result) == i1:
        return Step(lambda x: x != 0, (op.x,))
    return None
