from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import SSAValue

from tests.passes.graphs import GraphBuilder, assert_exact, assert_idempotent, ops_of
from uqfc.dialects import nn
from uqfc.passes.nest_concats import NestConcatsPass

AXES = st.sampled_from([0, 1])
CHOICES = st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=4), min_size=1, max_size=5)


def inputs_of(module: ModuleOp) -> list[int]:
    """Numbers of inputs of the concatenations, in order."""
    return [len(op.inputs) for op in ops_of(module, nn.ConcatOp)]


@given(axis=AXES, choices=CHOICES)
def test_exact(axis: int, choices: list[list[int]]) -> None:
    """Concatenations of inputs, and of concatenations."""
    b = GraphBuilder([(1, 1)] * 3)
    values: list[SSAValue] = list(b.block.args)
    for choice in choices:
        values.append(b.add(nn.ConcatOp([values[i % 3] for i in choice], axis)))
    module = b.module(values[3:])
    assert_exact(module, NestConcatsPass())
    assert_idempotent(module, NestConcatsPass())


def test_what_is_concatenated_already_is_taken() -> None:
    b = GraphBuilder([(1, 2)] * 4)
    w, x, y, z = b.block.args
    lists = [x, y], [x, y, w, z], [x, y, w, z, z], [x, y, x, y]
    concats = [b.add(nn.ConcatOp(v, 1)) for v in lists]
    nested = assert_exact(b.module(concats), NestConcatsPass())
    assert inputs_of(nested) == [2, 3, 2, 2]


def test_along_another_axis_it_is_something_else() -> None:
    b = GraphBuilder([(1, 1)] * 3)
    x, y, z = b.block.args
    small = b.add(nn.ConcatOp([x, y], 0))
    nested = assert_exact(b.module([small, b.add(nn.ConcatOp([x, y, z], 1))]), NestConcatsPass())
    assert inputs_of(nested) == [2, 3]
