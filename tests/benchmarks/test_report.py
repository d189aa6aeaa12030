"""Ratios, fractions of the limits, and the JSON document."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.report import Result, Row, document, fraction, pick, read_json, write_json
from tests.benchmarks.reports import MISSING, layers, networks, row


def test_the_best_peer_is_the_fastest_of_any_precision() -> None:
    best = [one.best_peer() for one in networks().results]
    assert [b.candidate for b in best if b] == ["OpenVINO default", "ONNX Runtime float32"]


def test_ratios_are_medians_of_peers_by_ours() -> None:
    first, second = (one.ratios() for one in networks().results)
    peers = {"OpenVINO default": 4.0, "OpenVINO int8": 8.0, "ONNX Runtime float32": 16.0}
    assert first["uqfc int4"] == peers
    assert first["uqfc int8"] == {name: value / 2 for name, value in peers.items()}
    assert list(second) == ["uqfc int4"]  # INT8 was not measured there
    assert second["uqfc int4"]["ONNX Runtime float32"] == 0.5


def test_no_peer_no_ratio() -> None:
    alone = Result("alone", 1, (row("uqfc int4", 1.0), Row("torch eager", None, MISSING)))
    assert alone.best_peer() is None
    assert alone.ratios() == {"uqfc int4": {}}


def test_pick_is_the_fastest_of_the_names_that_were_measured() -> None:
    first = networks().results[0]
    chosen = pick(first, ["torch eager", "OpenVINO int8", "OpenVINO default"])
    assert chosen is not None
    assert chosen.candidate == "OpenVINO default"
    assert pick(first, ["torch eager"]) is None


def test_fractions_are_of_bandwidth_for_one_row_and_of_the_peak_else() -> None:
    report = layers()
    one, many = report.results
    assert fraction(report, one, one.rows[0]) == pytest.approx(1_000_000 / 20e-6 / 1e11)
    assert fraction(report, many, many.rows[0]) == pytest.approx(20_000_000 / 20e-6 / 2e12)
    assert fraction(report, many, Row("x", None, "no")) is None
    assert fraction(replace(report, peak=0.0), many, many.rows[0]) is None


def test_the_document_says_what_is_missing_and_why() -> None:
    found = document(networks())
    assert found["machine"]["versions"]["openvino"] == "2026.4"
    first = found["workloads"][0]
    assert first["best_peer"] == "OpenVINO default"
    assert first["times_as_fast_as_best_peer"] == {"uqfc int4": 4.0, "uqfc int8": 2.0}
    by_name = {candidate["name"]: candidate for candidate in first["candidates"]}
    assert by_name["torch eager"]["milliseconds"] is None
    assert by_name["torch eager"]["not_available"] == MISSING
    assert by_name["uqfc int4"]["cold_median_milliseconds"] == 0.5
    assert by_name["uqfc int4"]["milliseconds"]["median"] == 0.25
    assert by_name["uqfc int4"]["not_available"] is None


@pytest.mark.parametrize("report", [networks(), layers()])
def test_json_round_trip(report: object, tmp_path: Path) -> None:
    path = tmp_path / "folder/report.json"
    write_json(report, path)  # type: ignore[arg-type]
    assert read_json(path) == report


def test_another_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text(json.dumps({"schema": 0}))
    with pytest.raises(ValueError, match="schema 0; this version reads 1"):
        read_json(path)


def test_a_busy_machine_is_marked() -> None:
    assert not networks().preliminary
    assert replace(networks(), load=1.6).preliminary
    assert not replace(networks(), load=1.6, threads=2).preliminary
