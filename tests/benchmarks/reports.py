"""Reports to test with: no measurement, round figures."""

from __future__ import annotations

from benchmarks.report import Report, Result, Row
from uqfc.timing import Latency

MACHINE = {
    "architecture": "x86_64",
    "cpu": "Test CPU",
    "cores": 2,
    "notable_features": ["avx512_vnni"],
    "cpu_features": ["avx512_vnni"],
    "system": "Linux",
    "python": "3.11",
    "versions": {"uqfc": "0.1.0", "openvino": "2026.4"},
}
MISSING = "not installed: torch"


def row(candidate: str, median: float, cold: float | None = None) -> Row:
    """A row of 100 runs around ``median`` milliseconds."""
    return Row(candidate, Latency(100, 0.9 * median, median, 1.5 * median), cold=cold)


def networks() -> Report:
    """Two networks: on the first OpenVINO is the best peer, on the second ONNX Runtime."""
    first = (
        row("uqfc int4", 0.25, cold=0.5),
        row("uqfc int8", 0.5),
        row("OpenVINO default", 1.0),
        row("OpenVINO int8", 2.0),
        row("ONNX Runtime float32", 4.0),
        Row("torch eager", None, MISSING),
    )
    second = (
        row("uqfc int4", 2.0),
        Row("uqfc int8", None, "no such thing"),
        row("OpenVINO default", 4.0),
        row("OpenVINO int8", 5.0),
        row("ONNX Runtime float32", 1.0),
        Row("torch eager", None, MISSING),
    )
    results = (Result("small", 50_000_000, first), Result("large", 500_000_000, second))
    return Report("Networks", 1, results, peak=4e11, peak_name="INT8", load=1.0, machine=MACHINE)


def layers() -> Report:
    """A product of one row, which is bound by reading 1 MB, and one of many rows."""
    rows = row("uqfc int4", 0.02), row("ONNX Runtime MatMul", 0.04)
    results = (
        Result("gemm_1x1000x2000", 2_000_000, rows, bytes_read=1_000_000),
        Result("gemm_10x1000x2000", 20_000_000, rows),
    )
    bandwidth = {"gemm_1x1000x2000": 1e11}
    return Report(
        "Products", 1, results, peak=2e12, peak_name="INT8", bandwidth=bandwidth, machine=MACHINE
    )
