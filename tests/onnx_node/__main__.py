"""Writes ``docs/onnx-support.md``."""

from __future__ import annotations

from tests.onnx_node.scoreboard import interpret, markdown, tally
from tests.onnx_node.test_scoreboard import DOCUMENT, all_outcomes

if __name__ == "__main__":
    DOCUMENT.write_text(markdown(tally(all_outcomes(interpret))), encoding="utf-8")
