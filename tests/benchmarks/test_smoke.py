"""Small runs of the tables: that they work, not how long anything takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import cache, gemm, layer_models, layers, networks, workloads
from benchmarks.candidates import all_ready
from benchmarks.layer_models import Depthwise, Gemm
from benchmarks.measuring import Plan

PLAN = Plan(seconds=0, uncounted=1, counted=1, least_turns=1, warmup=0)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path))


def test_a_product_with_every_candidate() -> None:
    layer = gemm.workload(Gemm(2, 32, 16), threads=1)
    result = layers.measure(layer, PLAN)
    reasons = {row.candidate: row.reason for row in result.rows}
    assert not reasons["uqfc int4"]
    assert not reasons["uqfc int8"]
    assert not reasons["uqfc int8 of uint8"]
    assert not reasons["ONNX Runtime MatMul"]
    assert not reasons["ONNX Runtime MatMulInteger"]
    assert not reasons["ONNX Runtime MatMulNBits"]
    assert result.macs == 2 * 32 * 16


def test_a_network_with_every_candidate_that_is_installed() -> None:
    workload = layer_models.depthwise(Depthwise(6, 8, 3, 2), copies=1)
    candidates = all_ready(networks.factories(workload, 1, ["host", "x86-64"]))
    reasons = {c.name: c.reason for c in candidates}
    for name in (
        "uqfc int4",
        "uqfc int8",
        "uqfc float32",
        "uqfc int4 x86-64",
        "ONNX Runtime float32",
    ):
        assert not reasons[name]
    assert not reasons["ONNX Runtime int8"]
    assert reasons["torch eager"]  # this is no torchvision network
    assert len(candidates) == 4 + len(networks.PEERS)


def test_compiled_models_are_kept_until_the_version_changes() -> None:
    workload = layer_models.gemm(Gemm(1, 4, 4), copies=1)
    made: list[Path] = []

    def make(_: workloads.Workload, path: Path) -> None:
        path.write_text("x")
        made.append(path)

    first = cache.cached(workload, "kind", ".txt", make, version="1")
    assert cache.cached(workload, "kind", ".txt", make, version="1") == first
    assert len(made) == 1
    second = cache.cached(workload, "kind", ".txt", make, version="2")
    assert second.is_file()
    assert not first.exists()


@pytest.mark.parametrize(
    ("layer", "macs"),
    [(Depthwise(7, 4, 3, 1), 7 * 7 * 4 * 9), (Depthwise(7, 4, 5, 2), 4 * 4 * 4 * 25)],
)
@pytest.mark.parametrize("copies", [1, 3])
def test_macs_of_depthwise_models(layer: Depthwise, macs: int, copies: int) -> None:
    assert layer.macs == macs
    model = layer_models.depthwise(layer, copies)
    assert workloads.multiply_accumulates(model) == macs * copies


def test_a_network_that_is_not_there_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UQFC_MODEL_CACHE", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="make models"):
        workloads.network("resnet18")
