"""No node test of the ONNX standard may fail, and the published scoreboard must be true."""

from __future__ import annotations

import re
from pathlib import Path

import onnx
import pytest

from tests.onnx_node.scoreboard import (
    Outcome,
    collect,
    compare,
    compile_and_run,
    markdown,
    op_names,
    run_case,
    tally,
)

DOCUMENT = Path(__file__).parents[2] / "docs/onnx-support.md"
RUNNER = compile_and_run


@pytest.fixture(scope="module")
def outcomes() -> list[Outcome]:
    cases = collect()
    ops = op_names(cases)
    return [run_case(case, ops[case.name], RUNNER) for case in cases]


def test_no_case_fails(outcomes: list[Outcome]) -> None:
    assert [o for o in outcomes if o.status == "failed"] == []


def test_most_cases_that_are_no_training_or_sequence_op_pass(outcomes: list[Outcome]) -> None:
    assert sum(o.status == "passed" for o in outcomes) >= 1000


def test_every_unsupported_case_says_why(outcomes: list[Outcome]) -> None:
    assert all(o.detail for o in outcomes if o.status == "unsupported")


def test_the_document_is_up_to_date(outcomes: list[Outcome]) -> None:
    """After a change: ``python -m tests.onnx_node`` writes it anew."""
    text = DOCUMENT.read_text(encoding="utf-8")
    written_for = re.search(r"node tests of onnx (\S+);", text)
    if written_for is None or written_for[1] != onnx.__version__:
        pytest.skip(f"the document is not about the installed onnx {onnx.__version__}")
    assert text == markdown(tally(outcomes))


def test_a_wrong_result_is_noticed() -> None:
    from numpy import float32, ones

    with pytest.raises(AssertionError):
        compare([ones(3, float32)], [1.01 * ones(3, float32)], rtol=1e-3, atol=1e-7)
    with pytest.raises(AssertionError, match="shape"):
        compare([ones((3, 1), float32)], [ones(3, float32)], rtol=1e-3, atol=1e-7)
