"""The profile: what is measured and how figures follow; never how long something takes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import uqfc
from tests.codegen import amx
from tests.onnx_models import IMAGE, model, perceptron, residual_network, samples
from uqfc.cli import main
from uqfc.codegen.isa import isa_for
from uqfc.codegen.limits import KINDS, Limits
from uqfc.targets import load_target, missing_cpu_features

TARGETS = ("avx512-amx", "avx512-vnni", "x86-64-v3", "x86-64")


@pytest.fixture(autouse=True, scope="module")
def emulated_amx() -> Iterator[None]:
    with amx.emulated():
        yield


def needs(target: str) -> None:
    missing = missing_cpu_features(load_target(target))
    if missing:
        pytest.skip(f"no {' '.join(missing)} on this machine")


@pytest.mark.parametrize("target", TARGETS)
def test_limits_are_measured_once(target: str) -> None:
    needs(target)
    limits = Limits(isa_for(load_target(target)))
    for kind in KINDS:
        rate = limits.macs_per_second(kind)
        assert rate > 0
        assert limits.macs_per_second(kind) == rate
    bandwidth = limits.read_bandwidth(5000)
    assert bandwidth > 0
    assert limits.read_bandwidth(8192) == bandwidth  # the power of two above 5000


@pytest.mark.parametrize("target", TARGETS)
def test_every_launch_is_profiled(target: str) -> None:
    needs(target)
    compiled = uqfc.compile(residual_network(), target=target, calibration_data=samples(IMAGE))
    profile = compiled.profile(runs=5, warmup=0)
    assert [p.layer for p in profile.launches] == [layer.name for layer in compiled.layers]
    assert [p.kernel for p in profile.launches] == [layer.kernel for layer in compiled.layers]
    assert profile.runs == profile.call.runs == 5
    total = profile.kernels_median_us
    for p in profile.launches:
        assert 0 < p.minimum_us <= p.median_us
        assert p.limit_us > 0
        assert p.gmacs_per_second == pytest.approx(p.macs / (p.median_us * 1e-6) / 1e9)
        assert p.of_limit == p.limit_us / p.median_us
    assert sum(p.minimum_us for p in profile.launches) <= total
    assert profile.left_over_us == profile.call.median * 1e3 - total


def test_profiling_changes_no_output() -> None:
    compiled = uqfc.compile(residual_network(), target="x86-64", calibration_data=samples(IMAGE))
    x = {"image": samples(IMAGE)[0]}
    before = compiled.run(x)["logits"]
    compiled.profile(runs=1, warmup=0)
    assert np.array_equal(compiled.run(x)["logits"], before)


def test_an_output_may_be_called_cycles() -> None:
    node = onnx.helper.make_node("Relu", ["x"], ["cycles_"], name="relu")
    named = model([node], {"x": (1, 4)}, {"cycles_": (1, 4)}, {})
    compiled = uqfc.compile(named, target="x86-64", quant_strategy="float32")
    assert len(compiled.profile(runs=1, warmup=0).launches) == 1


# --- the command ----------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path: Path) -> Path:
    onnx.save(perceptron(), tmp_path / "perceptron.onnx")
    return tmp_path / "perceptron.onnx"


def test_the_command_prints_json(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["bench", str(path), "--profile", "--target", "x86-64", "--runs", "3", "--json"]
    assert main(arguments) == 0
    printed: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert printed["target"] == "x86-64"
    assert printed["runs"] == 3
    layers = [p["layer"] for p in printed["launches"]]
    assert layers[-2:] == ["first", "second"]
    assert {"minimum_us", "median_us", "macs", "of_limit"} <= set(printed["launches"][0])


@pytest.mark.parametrize("strategy", ["float32", "int4"])
def test_the_command_prints_a_table(
    strategy: str, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["bench", str(path), "--profile", "--target", "x86-64", "--runs", "2"]
    assert main([*arguments, "--quant-strategy", strategy]) == 0
    out = capsys.readouterr().out
    assert "first" in out
    assert "of the limit" in out
    assert "not in kernels" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model.so", "--profile"], "--profile needs the ONNX model"),
        (["model.onnx", "--profile", "--threads", "2"], "without --against, --callers, --threads"),
        (["missing.onnx", "--profile"], "missing.onnx"),
    ],
)
def test_wrong_use(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *arguments]) == 2
    assert message in capsys.readouterr().err
