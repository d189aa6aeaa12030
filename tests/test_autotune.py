"""Autotuning: what is measured, kept and taken; never how long something takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

import uqfc
from tests.onnx_models import IMAGE, residual_network, samples
from tests.test_profile import TARGETS, needs
from uqfc import autotune, measurements
from uqfc.cache import DIRECTORY_VARIABLE, Cache
from uqfc.cli import main
from uqfc.codegen.isa import AVX2, VNNI512
from uqfc.codegen.lowering import Choice
from uqfc.errors import TargetError
from uqfc.measurements import Measurements
from uqfc.model import CompiledModel

PROBLEM = ("sizes", "kernel_a", "kernel_b")
CYCLES = {"kernel_a": 10.0, "kernel_b": 12.5}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DIRECTORY_VARIABLE, str(tmp_path / "cache"))


def compiled(target: str = "x86-64", **options: Any) -> CompiledModel:
    return uqfc.compile(
        residual_network(), target=target, calibration_data=samples(IMAGE), **options
    )


def choosers(model: CompiledModel) -> dict[str, str | None]:
    return {layer.name: layer.chosen_by for layer in model.layers if layer.weight_dtype}


# --- choosing -------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", TARGETS)
def test_a_tuned_network_computes_the_same_bits(target: str) -> None:
    needs(target)
    plain, tuned = compiled(target), compiled(target, autotune=True)
    chosen = choosers(tuned)
    assert chosen["pointwise"] == "measured"
    assert chosen["head"] is None  # one kernel has a single row
    assert {k: v and "model" for k, v in chosen.items()} == choosers(plain)
    for x in samples(IMAGE, seed=1):
        inputs = {"image": x}
        assert np.array_equal(tuned.run(inputs)["logits"], plain.reference(inputs)["logits"])


@given(st.lists(st.tuples(st.floats(1, 1e6), st.floats(1, 1e6)), min_size=1, max_size=6))
def test_the_fastest_is_taken_but_for_noise(figures: list[tuple[float, float]]) -> None:
    choices = [
        Choice(f"kernel_{i}", lambda *_: None, estimate=estimate)
        for i, (estimate, _) in enumerate(figures)
    ]
    cycles = {c.name: measured for c, (_, measured) in zip(choices, figures, strict=True)}
    modelled = min(choices, key=lambda c: c.estimate).name
    taken = autotune.fastest(choices, cycles)
    assert cycles[taken] <= min(cycles.values()) / (1 - autotune.MARGIN)
    if taken != modelled:
        assert cycles[taken] == min(cycles.values()) < cycles[modelled]


def test_each_problem_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[Any] = []
    original = autotune.measure

    def counting(problems: Any, *rest: Any) -> Any:
        measured.extend(problems)
        return original(problems, *rest)

    monkeypatch.setattr(autotune, "measure", counting)
    first = compiled(autotune=True)
    count = len(measured)
    assert count == len(set(measured)) >= 1
    second = compiled(autotune=True)
    assert len(measured) == count
    assert second.info == first.info
    compiled(autotune=True, cache=False)
    assert len(measured) == 2 * count


def test_another_machines_target_cannot_be_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autotune, "missing_cpu_features", lambda table: ("avx2", "fma"))
    with pytest.raises(TargetError, match="cannot be measured, because this machine lacks avx2, f"):
        compiled(autotune=True)


def test_the_command_records_how_kernels_were_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx.save(residual_network(), tmp_path / "model.onnx")
    np.save(tmp_path / "data.npy", np.concatenate(samples(IMAGE)))
    monkeypatch.chdir(tmp_path)
    arguments = ["compile", "model.onnx", "-o", "model.o", "--target", "x86-64", "--autotune"]
    assert main([*arguments, "--calibrate", "data.npy"]) == 0
    assert b'"chosen_by":"measured"' in (tmp_path / "model.o").read_bytes()


# --- what is kept ---------------------------------------------------------------------------------


def test_measurements_are_found_again(tmp_path: Path) -> None:
    kept = Measurements(Cache(tmp_path))
    assert kept.find(VNNI512, PROBLEM) is None
    kept.keep(VNNI512, PROBLEM, CYCLES)
    assert Measurements(Cache(tmp_path)).find(VNNI512, PROBLEM) == CYCLES
    assert kept.find(AVX2, PROBLEM) is None
    assert kept.find(VNNI512, ("sizes", "kernel_a")) is None


@pytest.mark.parametrize("changed", ["cpu", "fingerprint"])
def test_measurements_of_other_machines_or_code_do_not_count(
    changed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Measurements(Cache(tmp_path))
    kept.keep(VNNI512, PROBLEM, CYCLES)
    monkeypatch.setattr(measurements, changed, lambda: "other")
    assert kept.find(VNNI512, PROBLEM) is None


def test_nothing_is_kept_without_a_cache() -> None:
    kept = Measurements()
    kept.keep(VNNI512, PROBLEM, CYCLES)
    assert kept.find(VNNI512, PROBLEM) is None
