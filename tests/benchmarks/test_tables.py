"""Tables: on the console and in Markdown."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks import tables
from tests.benchmarks.reports import MISSING, layers, networks


def printed(show: object, report: object) -> str:
    out = StringIO()
    show(report, Console(file=out, width=160))  # type: ignore[operator]
    return out.getvalue()


def test_console_tables_name_missing_candidates_and_reasons() -> None:
    text = printed(tables.show, networks())
    assert text.count(f"torch eager: not available: {MISSING}") == 2
    assert "uqfc int8: not available: no such thing" in text
    assert "preliminary" not in text
    assert "% of INT8" in text


def test_compact_tables_have_a_line_for_each_workload() -> None:
    text = printed(tables.show_compact, layers())
    line = next(one for one in text.splitlines() if "gemm_1x" in one)
    assert line.split() == ["gemm_1x1000x2000", "20.0", "40.0", "100", "50", "2.00"]


def test_markdown_compares_the_first_column_with_the_best_peer() -> None:
    columns = {
        "uqfc INT4": ("uqfc int4",),
        "OpenVINO": ("OpenVINO default", "OpenVINO int8"),
        "torch": ("torch eager",),
    }
    assert tables.markdown(networks(), columns).splitlines() == [
        "| median ms | uqfc INT4 | OpenVINO | torch | uqfc INT4 against the best peer |",
        "|---|---:|---:|---:|---:|",
        "| small | 0.25 | *1* | – | **4.0 ×** |",
        "| large | 2 | 4 | – | **0.5 ×** |",
    ]


def test_markdown_of_all_has_every_candidate_and_reason() -> None:
    text = tables.markdown_of_all(networks())
    assert "| **uqfc int4** |" not in text  # figures are emphasized, names are not
    assert "| uqfc int4 | **0.25 (0.225)** | **2 (1.8)** |" in text
    assert "| torch eager | – | – |" in text
    assert f"- small, torch eager: not available: {MISSING}" in text


def test_markdown_of_layers() -> None:
    last = tables.markdown_of_layers(layers()).splitlines()[-1]
    assert last == "| gemm_10x1000x2000 | 20.0 | 40.0 | 1000 | 50 | 2.00 |"


def test_a_region_of_a_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text("a\n<!-- x:begin -->\nold\n<!-- x:end -->\nb\n", encoding="utf-8")
    for _ in range(2):
        tables.replace_region(path, "x", "new")
        text = path.read_text(encoding="utf-8")
        assert text == "a\n<!-- x:begin -->\nnew\n<!-- x:end -->\nb\n"
    with pytest.raises(ValueError, match="no region between <!-- y:begin -->"):
        tables.replace_region(path, "y", "new")
