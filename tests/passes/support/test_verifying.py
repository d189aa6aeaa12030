"""Verifying what changed finds what verifying everything finds."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from xdsl.dialects.builtin import ModuleOp, StringAttr
from xdsl.ir import Operation
from xdsl.rewriter import Rewriter
from xdsl.utils.exceptions import VerifyException

from tests.passes.graphs import GraphBuilder
from uqfc.dialects import nn
from uqfc.dialects.nn import fn
from uqfc.dialects.tensors import tensor_type
from uqfc.passes.support.verifying import Verifier


def chain() -> tuple[ModuleOp, nn.UnaryOp, nn.UnaryOp]:
    b = GraphBuilder([(2, 3)])
    first = b.add(nn.UnaryOp(b.block.args[0], fn("relu")))
    second = b.add(nn.UnaryOp(first, fn("tanh")))
    module = b.module([second])
    ops = [op for op in module.walk() if isinstance(op, nn.UnaryOp)]
    return module, ops[0], ops[1]


def change_type(first: Operation, _: Operation) -> None:
    Rewriter.replace_value_with_new_type(first.results[0], tensor_type((9, 9)))


def drop_property(_: Operation, second: Operation) -> None:
    del second.properties["fn"]


def add_property(_: Operation, second: Operation) -> None:
    second.properties["unknown"] = StringAttr("")


def drop_terminator(first: Operation, _: Operation) -> None:
    block = first.parent
    assert block is not None
    assert block.last_op is not None
    Rewriter.erase_op(block.last_op)


def empty_block(first: Operation, _: Operation) -> None:
    block = first.parent
    assert block is not None
    for op in reversed(list(block.ops)):
        Rewriter.erase_op(op)


@pytest.mark.parametrize(
    "damage", [change_type, drop_property, add_property, drop_terminator, empty_block]
)
def test_damage_to_a_verified_module_is_found(
    damage: Callable[[Operation, Operation], None],
) -> None:
    module, first, second = chain()
    verifier = Verifier()
    verifier.verify(module)
    verifier.verify(module)
    damage(first, second)
    with pytest.raises(VerifyException):
        module.verify()
    for _ in range(2):
        with pytest.raises(VerifyException):
            verifier.verify(module)


def test_what_did_not_change_is_not_verified_again(monkeypatch: pytest.MonkeyPatch) -> None:
    module, first, second = chain()
    seen: list[Operation] = []
    verify = nn.UnaryOp.verify_

    def spy(op: nn.UnaryOp) -> None:
        seen.append(op)
        verify(op)

    monkeypatch.setattr(nn.UnaryOp, "verify_", spy)
    verifier = Verifier()
    verifier.verify(module)
    assert seen == [first, second]
    verifier.verify(module)
    assert seen == [first, second]
    second.properties["fn"] = fn("relu")
    verifier.verify(module)
    assert seen == [first, second, second]
