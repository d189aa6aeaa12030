from __future__ import annotations

from typing import Any

import pytest
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass
from xdsl.rewriter import Rewriter
from xdsl.utils.exceptions import VerifyException

from tests.passes.graphs import GraphBuilder
from uqfc.dialects import nn
from uqfc.dialects.tensors import tensor_type
from uqfc.errors import UqfcError
from uqfc.passes.fold_constants import FoldConstantsPass
from uqfc.passes.select_bit_width import SelectBitWidthPass
from uqfc.pipeline import GRAPH_PASSES, graph_passes, named_passes, parse_pipeline, run_passes


class BreakTypesPass(ModulePass):
    name = "break-types"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for each in op.walk():
            if isinstance(each, nn.UnaryOp):
                Rewriter.replace_value_with_new_type(each.result, tensor_type((9, 9)))


def relu() -> ModuleOp:
    b = GraphBuilder([(2, 3)])
    return b.module([b.add(nn.UnaryOp(b.block.args[0], nn.fn("relu")))])


def test_a_pipeline_is_text_with_options() -> None:
    passes = parse_pipeline("fold-constants,select-bit-width{strategy=int4}")
    assert passes == [FoldConstantsPass(), SelectBitWidthPass("int4")]


def test_a_pipeline_is_objects() -> None:
    given = [BreakTypesPass(), FoldConstantsPass()]
    assert parse_pipeline(iter(given)) == given


@pytest.mark.parametrize(
    ("pipeline", "message"),
    [
        ("no-such-pass", "'no-such-pass': .*no-such-pass"),
        ("fold-constants{", "'fold-constants{': .*Expected argument name"),
        ("fold-constants{speed=1}", r"arguments \[\"speed\"\] not found"),
        ("select-bit-width{strategy=3}", "'select-bit-width{strategy=3}': "),
        ([BreakTypesPass], "BreakTypesPass.* is not an object of a ModulePass class"),
        (["fold-constants"], "'fold-constants' is not an object"),
    ],
)
def test_what_is_no_pipeline_is_an_error(pipeline: Any, message: str) -> None:
    with pytest.raises(UqfcError, match=f"(?s){message}"):
        parse_pipeline(pipeline)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UqfcError, match=r"unknown pass 'nope'; known: .*fold-constants"):
        named_passes(["nope"])


def test_passes_of_the_user_come_after_fusion_and_are_cleaned_up_after() -> None:
    names = [each.name for each in graph_passes([BreakTypesPass()])]
    assert names == [*GRAPH_PASSES, "break-types", "eliminate-dead-code"]
    assert [each.name for each in graph_passes()] == list(GRAPH_PASSES)


def test_an_invalid_module_is_blamed_on_its_pass() -> None:
    seen: list[str] = []
    passes = [FoldConstantsPass(), BreakTypesPass(), FoldConstantsPass()]
    with pytest.raises(VerifyException) as error:
        run_passes(relu(), passes, lambda name, _: seen.append(name))
    assert error.value.__notes__[-1] == "after the pass 'break-types'"
    assert seen == ["fold-constants"]
