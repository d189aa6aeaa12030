"""``uqfc.search_bit_width`` and ``uqfc search`` on real networks: compiled, run and measured."""

from __future__ import annotations

import json
import sys
from collections.abc import Generator, Mapping
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import uqfc
from tests.codegen.toy import needs_linker
from tests.onnx_models import IMAGE, residual_network, samples
from uqfc.calibrated import calibrate_model
from uqfc.cli import main
from uqfc.errors import TargetError, UqfcError
from uqfc.layer_facts import LayerFacts
from uqfc.search import Metric, planning
from uqfc.search.size import constants_by_layer, size_model
from uqfc.search.space import SearchSpace
from uqfc.targets import load_target

pytest.importorskip("scipy")

LAYERS = ("stem", "depthwise", "pointwise", "head")
SPACE = {"*": ["int8", "int4"]}
BITS = {"int8": 8, "int4": 4, "ternary": 2, "binary": 1}


@dataclass(frozen=True)
class Losses:
    """A table of sensitivities: quadratic in the step, another factor for each layer."""

    loss: Mapping[tuple[str, str], float]


LOSSES = Losses(
    {
        (layer, dtype): factor * (8 - bits) ** 2 / 1000
        for layer, factor in zip(LAYERS, (4, 3, 2, 1), strict=True)
        for dtype, bits in BITS.items()
    }
)


class Speeds:
    """A table of latencies."""

    fixed = 10.0

    def microseconds(self, layer: LayerFacts, dtype: str) -> float:
        return layer.macs * BITS[dtype] / 1e4


@pytest.fixture(autouse=True, scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Generator[None]:
    """Kernels are compiled once for all searches here, of few rounds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UQFC_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(planning, "ROUNDS", 4)
        yield


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.concatenate(samples(IMAGE, 48))


@pytest.fixture(scope="module")
def labels(images: np.ndarray) -> np.ndarray:
    """The classes that the network gives them in float32."""
    model = uqfc.compile(residual_network(), quant_strategy="float32")
    return np.array([int(np.asarray(model(x[None])).argmax()) for x in images])


def search(images: np.ndarray, labels: np.ndarray, **options: Any) -> Any:
    arguments: dict[str, Any] = {
        "search_space": SPACE,
        "accuracy_constraint": 0.5,
        "sensitivity": LOSSES,
        "budget": 4,
    }
    return uqfc.search_bit_width(
        residual_network(), data=images, labels=labels, **{**arguments, **options}
    )


def test_what_is_found_is_compiled_with_its_reasons(images: np.ndarray, labels: np.ndarray) -> None:
    result = search(images, labels)
    assert result.feasible
    assert result.reference_accuracy == 1.0
    found = {layer.name: layer for layer in result.model.layers if layer.chosen is not None}
    assert {name: found[name].chosen for name in LAYERS} == result.configuration
    assert {name: found[name].reason for name in LAYERS} == {
        name: str(decision.reason) for name, decision in result.decisions.items()
    }
    assert result.model.info["weights_bytes"] == result.chosen.outcome.size
    classes = [int(np.asarray(result.model(x[None])).argmax()) for x in images]
    assert np.mean(classes == labels) == result.chosen.outcome.accuracy


def test_latencies_are_measured_and_limited(images: np.ndarray, labels: np.ndarray) -> None:
    result = search(images, labels, latency_target="50ms", latencies=Speeds())
    assert result.chosen.outcome.latency < 50
    assert all(c.outcome.latency is not None for c in result.candidates)
    impossible = search(images, labels, latency_target="1ns", latencies=Speeds(), budget=3)
    assert not impossible.feasible
    assert impossible.model is None
    unmet = {each.metric: each for each in impossible.infeasibility.unmet}
    assert unmet[Metric.LATENCY].fails_by > 0


def test_a_target_that_does_not_run_here(images: np.ndarray, labels: np.ndarray) -> None:
    """Accuracy by the same bits on this machine, the target's sizes, latencies by a table."""
    foreign = "neoverse-v1" if load_target("host").architecture == "x86_64" else "x86-64"
    with pytest.raises(TargetError, match=f"target {foreign} does not run here"):
        search(images, labels, target=foreign, latency_target=1, budget=2)
    result = search(images, labels, target=foreign, latency_target=1, latencies=Speeds(), budget=3)
    assert result.feasible
    assert result.model.target.name == foreign
    assert result.model.info["weights_bytes"] == result.chosen.outcome.size
    assert result.chosen.outcome.latency < 1


def test_points_below_float32(images: np.ndarray, labels: np.ndarray) -> None:
    result = search(images, labels, accuracy_constraint=None, max_drop_points=25, budget=3)
    assert result.constraints.accuracy == 0.75


def test_sizes_are_exact(images: np.ndarray) -> None:
    dtypes = ("int8", "int4", "ternary", "binary")
    network = calibrate_model(residual_network(), calibration_data=images)
    had = {layer.name: layer.choices for layer in network.layers}
    space = SearchSpace.of({"*": dtypes}, had)
    uniform = {
        dtype: constants_by_layer(network.compile(space.configuration(space.uniform(dtype))))
        for dtype in space.dtypes
    }
    sizes = size_model(space, uniform)
    for row in space.random(np.random.default_rng(0), 5):
        compiled = network.compile(space.configuration(row))
        assert compiled.info["weights_bytes"] == sizes.one(row)


def test_an_evaluator_that_fails_is_recorded(images: np.ndarray) -> None:
    answers = iter([0.9, "high", float("nan"), 1.5, None, np.float32(0.75), [0.5, 0.6], 0.8])

    def evaluate(model: uqfc.CompiledModel) -> Any:
        value = next(answers, None)
        if value is None:
            raise RuntimeError("no disk")
        return value

    result = uqfc.search_bit_width(
        residual_network(),
        SPACE,
        evaluate=evaluate,
        calibration_data=images,
        accuracy_constraint=0.5,
        sensitivity=LOSSES,
        budget=8,
    )
    errors = [c.outcome.error for c in result.candidates if c.outcome.error]
    assert errors[:3] == [
        "evaluate returned 'high'; accepted: a share of right answers, 0 to 1",
        "evaluate returned nan; accepted: a share of right answers, 0 to 1",
        "evaluate returned 1.5; accepted: a share of right answers, 0 to 1",
    ]
    assert errors[3] == "evaluate raised RuntimeError: no disk"
    assert "evaluate returned [0.5, 0.6]; accepted: a share" in errors[4]
    assert result.feasible
    assert result.chosen is not None
    assert result.chosen.outcome.accuracy in (0.75, 0.8, 0.9)


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_executors_do_not_change_the_result(
    kind: str, images: np.ndarray, labels: np.ndarray
) -> None:
    expected = search(images, labels, budget=3).document()
    context = get_context("spawn")
    make = {
        "threads": lambda: ThreadPoolExecutor(2),
        "processes": lambda: ProcessPoolExecutor(2, mp_context=context),
    }
    with make[kind]() as executor:
        found = search(images, labels, budget=3, executor=executor)
    assert found.document() == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"accuracy_constraint": 1.2}, "accuracy constraint: 1.2 cannot be met"),
        ({"accuracy_constraint": float("nan")}, "accuracy constraint: nan cannot be met"),
        ({"max_drop_points": 1.0}, "give accuracy_constraint or max_drop_points, not both"),
        ({"accuracy_constraint": None, "max_drop_points": -1}, "max_drop_points: -1; accepted"),
        ({"latency_target": -1}, "latency target: -1; accepted: a positive number of milli"),
        ({"latency_target": "fast"}, "latency target: 'fast'; accepted"),
        ({"latency_target": float("nan")}, "latency target: nan; accepted"),
        ({"size_target": "1 bottle"}, "size target: '1 bottle'; accepted: a positive number of b"),
        ({"size_target": True}, "size target: True; accepted"),
        ({"method": "guess"}, "method: 'guess' is unknown; accepted: auto, ilp, mcts, evolution"),
        ({"budget": 0}, "budget: 0; accepted"),
        ({"seconds": -1}, "seconds: -1; accepted"),
        ({"objective": "joy"}, "objective: 'joy' is unknown; accepted: accuracy, latency, size"),
        ({"search_space": {"sterm": ["int8"]}}, "no layer 'sterm'; did you mean stem"),
        ({"search_space": {"stem": []}}, "accepted: a list of at least one type"),
        ({"labels": [1, 2]}, "2 labels for 48 samples"),
        ({"labels": None}, "labels are missing"),
        ({"labels": [0.5] * 48}, "accepted: whole numbers"),
        ({"data": None}, "give `data` with `labels`, or `evaluate`"),
        ({"target": "no-such-target"}, "unknown target"),
        ({"evaluate": 5}, "evaluate: 5; accepted: a function"),
    ],
)
def test_arguments_that_are_refused(
    options: dict[str, Any], message: str, images: np.ndarray, labels: np.ndarray
) -> None:
    arguments = {"labels": labels, "images": images, **options}
    if "data" in options:
        arguments["images"] = arguments.pop("data")
    with pytest.raises(UqfcError, match=message):
        search(**arguments)


def test_quantities_have_units() -> None:
    from uqfc.search.constraints import quantity

    assert quantity("100us", "latency") == pytest.approx(0.1)
    assert quantity("0.1ms", "latency") == quantity(0.1, "latency") == 0.1
    assert quantity("1MB", "size") == quantity(1_000_000, "size") == 1e6
    assert quantity("2 KiB", "size") == 2048


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory, images: np.ndarray, labels: np.ndarray
) -> Path:
    path = tmp_path_factory.mktemp("search")
    onnx.save(residual_network(), path / "model.onnx")
    np.savez(path / "data.npz", image=images, labels=labels)
    (path / "space.json").write_text(json.dumps(SPACE))
    return path


def command(folder: Path, *more: str) -> list[str]:
    given = ["search", str(folder / "model.onnx"), "--data", str(folder / "data.npz")]
    return [*given, "--space", str(folder / "space.json"), "--budget", "4", *more]


@needs_linker
def test_the_command_writes_what_it_finds(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outputs = {name: folder / f"out.{name}" for name in ("so", "svg", "json")}
    arguments = ["--max-drop", "60", "--size", "1MB", "--journal", str(folder / "journal")]
    arguments += ["-o", str(outputs["so"]), "--plot", str(outputs["svg"])]
    arguments += ["--report", str(outputs["json"])]
    assert main(command(folder, *arguments)) == 0
    text = capsys.readouterr().out
    assert "Pareto front" in text
    assert "chosen" in text
    assert "of the optimum" in text or "above the optimum" in text
    report = json.loads(outputs["json"].read_text())
    assert report["feasible"]
    assert report["fresh"] == len(report["candidates"])
    assert outputs["svg"].read_text().startswith("<svg")
    assert main(["inspect", str(outputs["so"])]) == 0
    assert main(command(folder, *arguments, "--json")) == 0
    capsys.readouterr()
    again = json.loads(outputs["json"].read_text())
    assert again["fresh"] == 0
    assert again | {"fresh": 0} == report | {"fresh": 0}


def test_the_command_says_that_limits_cannot_be_met(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(folder, "--size", "10B", "-o", str(folder / "none.so"))) == 3
    assert "fails by" in capsys.readouterr().out
    assert not (folder / "none.so").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("-o", "x.exe"), "x.exe: its name must end in .so or .o"),
        (("--plot", "x.png"), "x.png: its name must end in .svg"),
        (("--plot", "/no/such/x.svg"), "there is no directory"),
        (("--latency", "0"), "latency target: '0'"),
    ],
)
def test_the_command_refuses_before_any_work(
    folder: Path, more: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(folder, *more)) == 2
    assert message in capsys.readouterr().err


def test_an_interrupted_command_says_how_to_go_on(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["uqfc.cli.search"], "search_bit_width", interrupt)
    assert main(command(folder, "--journal", "j")) == 130
    assert "j has all evaluations" in capsys.readouterr().err
