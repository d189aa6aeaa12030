from __future__ import annotations

from hypothesis import given, settings
from xdsl.dialects.builtin import ModuleOp

from uqfc.dialects import nn
from uqfc.passes.sink_transposes import SinkTransposes
from tests.passes.graphs import GraphBuilder, assert_exact, assert_idempotent, graphs, ops_of


@given(graphs())
@settings(max_examples=200, deadline=None)
def test_exact(module: ModuleOp) -> None:
    assert_exact(module, SinkTransposes())


@given(graphs())
@settings(max_examples=100, deadline=None)
def test_idempotent(module: ModuleOp) -> None:
    assert_idempotent(module, SinkTransposes())
