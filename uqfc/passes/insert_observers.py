"""``insert-observers``: marks the values that will be quantized.

Runs after fusion, so that every value marked is one that the integer network really rounds. A
layer with constant weights wants a quantized input; from there the marks follow the data through
every op that has an integer form. What is left unmarked stays float32.

Ops that only move bits share the point of their operand; the inputs of a concatenation share the
point of its result if nobody else reads them, so that concatenating moves bits, too.

Law: exact. ``quant.observe`` is the identity.
"""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.builder import Builder
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, UnitAttr
from xdsl.dialects.func import FuncOp
from xdsl.ir import BlockArgument, Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.rewriter import InsertPoint

from uqfc.dialects import nn
from uqfc.dialects.quant import ObserveOp
from uqfc.passes.support.quantizable import (
    LAYERS,
    MOVEMENT,
    activations,
    has_integer_form,
    is_constant,
)


def integer_ops(function: FuncOp) -> list[Operation]:
    """The ops that will run on integers, in order."""
    candidates = [op for op in function.body.block.ops if has_integer_form(op)]
    chosen: dict[Operation, None] = {}
    quantized: set[SSAValue] = set()
    for op in candidates:
        inputs = [v for v in activations(op) if not is_constant(v)]
        follows = bool(inputs) and all(v in quantized for v in inputs)
        leads = isinstance(op, MOVEMENT) and reaches_layer(op)
        if isinstance(op, LAYERS) or follows or leads:
            chosen[op] = None
            quantized.update(op.results)
    while dropped := [
        op for op in chosen if not isinstance(op, LAYERS) and not read_by(op, chosen)
    ]:
        for op in dropped:
            del chosen[op]
    return list(chosen)


def reaches_layer(op: Operation) -> bool:
    """Whether some user, through ops that move bits, is a layer (e.g. max pooling of the input)."""
    return any(
        isinstance(use.operation, LAYERS)
        or (isinstance(use.operation, MOVEMENT) and reaches_layer(use.operation))
        for use in op.results[0].uses
    )


def read_by(op: Operation, chosen: dict[Operation, None]) -> bool:
    return any(
        use.operation in chosen and op.results[0] in activations(use.operation)
        for use in op.results[0].uses
    )


def points(ops: list[Operation]) -> tuple[dict[SSAValue, str], set[SSAValue]]:
    """The quantize point of each value, and the values whose statistics another one provides."""
    names: dict[SSAValue, str] = {}
    tied: set[SSAValue] = set()
    for op in ops:
        for value in activations(op):
            names.setdefault(value, f"q{len(names)}")
    for op in ops:
        if isinstance(op, MOVEMENT) and op.results[0] in names:
            names[op.results[0]] = names[op.operands[0]]
            tied.add(op.results[0])
    for op in reversed(ops):
        if not isinstance(op, nn.ConcatOp) or op.result not in names:
            continue
        for value in op.inputs:
            if value.uses.get_length() == 1 and value not in tied and not is_constant(value):
                names[value] = names[op.result]
                tied.add(value)
    return names, tied


def insert_observe(value: SSAValue, point: str, tied: bool) -> None:
    owner = value.owner
    at = (
        InsertPoint.at_start(value.block)
        if isinstance(value, BlockArgument)
        else InsertPoint.after(owner)
        if isinstance(owner, Operation)
        else InsertPoint.at_end(owner)
    )
    observe = ObserveOp(value, point)
    if tied:
        observe.attributes["tied"] = UnitAttr()
    Builder(at).insert(observe)
    value.replace_uses_with_if(observe.result, lambda use: use.operation is not observe)


@dataclass(frozen=True)
class InsertObserversPass(ModulePass):
    """See the module's documentation."""

    name = "insert-observers"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for function in op.ops:
            if isinstance(function, FuncOp):
                names, tied = points(integer_ops(function))
                for value, point in names.items():
                    insert_observe(value, point, value in tied)
