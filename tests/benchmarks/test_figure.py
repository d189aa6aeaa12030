"""The README's figure."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from benchmarks import figure
from tests.benchmarks.reports import networks

pytest.importorskip("matplotlib")


def test_the_same_report_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = tmp_path / "a.svg", tmp_path / "b.svg"
    figure.draw(networks(), first)
    figure.draw(networks(), second)
    assert first.read_bytes() == second.read_bytes()


def test_it_shows_networks_runtimes_and_milliseconds(tmp_path: Path) -> None:
    path = tmp_path / "folder/a.svg"
    figure.draw(networks(), path)
    texts = {element.text for element in ET.parse(path).iter() if element.tag.endswith("}text")}
    assert {"small", "large", "uqfc INT4", "OpenVINO", "0.25", "0.5"} <= texts
    assert "torch" in texts  # in the legend, although it was not measured


def test_bars_are_relative_to_the_best_peer() -> None:
    speeds = {label: figure.speed_and_row(networks(), 0, label)[0] for label in figure.SERIES}
    assert speeds["uqfc INT4"] == 4.0
    assert speeds["OpenVINO"] == 1.0
    assert speeds["ONNX Runtime"] == 0.25
    assert figure.speed_and_row(networks(), 0, "torch") == (0.0, None)
