"""How assignments are drawn, on a network that is not run."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("scipy")

from benchmarks.sensitivity_correlation import assignments, interval, spearman

LAYERS = [SimpleNamespace(name=f"layer{i}") for i in range(40)]
WORKLOAD: Any = SimpleNamespace(calibrated=SimpleNamespace(layers=LAYERS))


def narrow(bit_widths: dict[str, str]) -> int:
    return sum(dtype != "int8" for dtype in bit_widths.values())


def test_shares_of_narrow_layers() -> None:
    varied = [narrow(each) for each in assignments(WORKLOAD, "varied", 100)]
    assert min(varied) == 0
    assert max(varied) >= 36
    assert {narrow(each) for each in assignments(WORKLOAD, "quarter", 100)} == {10}


def test_assignments_are_the_same_every_time() -> None:
    assert assignments(WORKLOAD, "varied", 3) == assignments(WORKLOAD, "varied", 5)[:3]


def test_the_interval_is_around_the_correlation() -> None:
    x = np.arange(50.0)
    y = x + 20 * np.random.default_rng(0).standard_normal(50)
    low, high = interval(x, y)
    assert -1 < low < spearman(x, y) < high < 1
    assert spearman(x, np.exp(x / 10)) == pytest.approx(1.0)
