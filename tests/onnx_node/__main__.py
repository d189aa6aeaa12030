"""Writes ``docs/onnx-support.md``."""

from __future__ import annotations

from tests.onnx_node.scoreboard import collect, markdown, op_names, run_case, tally
from tests.onnx_node.test_scoreboard import DOCUMENT, RUNNER

if __name__ == "__main__":
    cases = collect()
    ops = op_names(cases)
    rows = tally(run_case(case, ops[case.name], RUNNER) for case in cases)
    DOCUMENT.write_text(markdown(rows), encoding="utf-8")
