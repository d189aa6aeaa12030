"""MobileNetV3-Small, 224 × 224, INT8: from the ONNX file to the first result on one core.

The budget is 3 s and 1 GB. Memory is held to it; time depends on the machine, so that the test
only fails at three times the budget, counts CPU time (which other processes do not add to), and
prints what was measured.
``benchmarks/compile_time.py`` is the measurement.
"""

from __future__ import annotations

import sys

import pytest

from benchmarks.compile_time import measure
from tests.models.catalog import model_cache, torchvision_models

pytestmark = pytest.mark.models

SECONDS = 3.0
SLACK = 3.0
MAX_BYTES = 1_000_000_000


@pytest.mark.skipif(sys.platform != "linux", reason="binds a process to a core: Linux only")
def test_the_budget_is_kept() -> None:
    path = torchvision_models().get("mobilenet_v3_small")
    if path is None:
        pytest.skip(f"mobilenet_v3_small is not in {model_cache()}: run `make models`")
    cost = measure(path, "int8", samples=4)
    print(f"{cost.elapsed:.2f} s ({cost.cpu:.2f} s of CPU), {cost.peak / 1e6:.0f} MB")
    assert cost.peak <= MAX_BYTES
    assert cost.cpu <= SECONDS * SLACK
