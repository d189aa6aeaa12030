"""The law of each pass that claims to be exact, on random graphs: same bits before and after."""

from __future__ import annotations

import pytest
from hypothesis import given
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass

from tests.passes.graphs import applied, assert_exact, graphs
from uqfc.passes.canonicalize_reshapes import CanonicalizeReshapesPass
from uqfc.passes.eliminate_dead_code import EliminateDeadCodePass
from uqfc.passes.fold_constants import FoldConstantsPass
from uqfc.passes.fold_padding import FoldPaddingPass
from uqfc.passes.fuse_activation import FuseActivationPass
from uqfc.passes.fuse_residual import FuseResidualPass
from uqfc.passes.nest_concats import NestConcatsPass
from uqfc.passes.sink_transposes import SinkTransposes
from uqfc.pipeline import GRAPH_PASSES

EXACT: tuple[ModulePass, ...] = (
    CanonicalizeReshapesPass(),
    EliminateDeadCodePass(),
    FoldConstantsPass(),
    FoldPaddingPass(),
    FuseActivationPass(),
    FuseResidualPass(),
    NestConcatsPass(),
    SinkTransposes(),
)


@pytest.mark.parametrize("each", EXACT, ids=lambda p: p.name)
@given(module=graphs())
def test_exact_and_idempotent(each: ModulePass, module: ModuleOp) -> None:
    result = assert_exact(module, each)
    assert str(applied(result, each)) == str(result)


@given(graphs(max_steps=12))
def test_all_in_order(module: ModuleOp) -> None:
    """As in the pipeline: later passes see what only earlier ones produce."""
    by_name = {p.name: p for p in EXACT}
    assert_exact(module, *(by_name[name] for name in GRAPH_PASSES if name in by_name))
