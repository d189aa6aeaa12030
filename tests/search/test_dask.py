"""A real Dask scheduler with two worker processes, one of which is killed in the middle."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import uqfc
from tests.onnx_models import IMAGE, residual_network, samples
from uqfc.search import planning
from uqfc.search.evaluation import Configuration, Outcome
from uqfc.search.jobs import Workers, make_ready

distributed = pytest.importorskip("distributed")
pytest.importorskip("scipy")

CONFIGURATIONS = [{"a": str(i)} for i in range(12)]


@dataclass(frozen=True)
class Killing:
    """The evaluation of ``5`` kills the worker that it runs on, the first time."""

    mark: str

    def open(self) -> Callable[[Configuration], Outcome]:
        return self.evaluate

    def evaluate(self, configuration: Configuration) -> Outcome:
        value = int(configuration["a"])
        if value == 5 and not Path(self.mark).exists():
            Path(self.mark).write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGKILL)
        return Outcome(value / 100, size=value)


@dataclass(frozen=True)
class Agreement:
    """Accuracy of a candidate; the first worker that measures one is killed while it does."""

    mark: str
    caller: int
    images: np.ndarray
    labels: np.ndarray

    def __call__(self, model: uqfc.CompiledModel) -> float:
        if os.getpid() != self.caller and not Path(self.mark).exists():
            Path(self.mark).write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGKILL)
        found = [int(np.asarray(model(x[None])).argmax()) for x in self.images]
        return float(np.mean(np.array(found) == self.labels))


@contextmanager
def two_workers(folder: Path) -> Generator[Any]:
    """An executor of two processes."""
    settings: dict[str, Any] = {
        "n_workers": 2,
        "threads_per_worker": 1,
        "processes": True,
        "dashboard_address": None,
        "local_directory": str(folder),
        "silence_logs": 50,
    }
    with distributed.LocalCluster(**settings) as cluster, distributed.Client(cluster) as client:
        yield client.get_executor()


LOSES_A_WORKER = pytest.mark.filterwarnings("ignore")  # what the scheduler says about it


@LOSES_A_WORKER
def test_a_search_that_loses_a_worker_ends_with_the_same_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UQFC_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(planning, "ROUNDS", 4)
    images = np.concatenate(samples(IMAGE, 16))
    labels = np.arange(16) % 10
    mark = tmp_path / "killed"
    evaluate = Agreement(str(mark), os.getpid(), images, labels)
    arguments: dict[str, Any] = {
        "search_space": {"*": ["int8", "int4", "ternary"]},
        "evaluate": evaluate,
        "calibration_data": images,
        "size_target": "100kB",
        "objective": "accuracy",
        "budget": 8,
    }
    alone = uqfc.search_bit_width(residual_network(), **arguments)
    assert not mark.exists()
    with two_workers(tmp_path) as executor:
        shared = uqfc.search_bit_width(residual_network(), executor=executor, **arguments)
    assert int(mark.read_text()) != os.getpid()
    assert shared.feasible
    assert len(alone.candidates) >= 8
    assert shared.candidates == alone.candidates
    assert shared.decisions == alone.decisions


@LOSES_A_WORKER
def test_a_worker_that_is_killed_does_not_change_the_outcomes(tmp_path: Path) -> None:
    mark = tmp_path / "killed"
    problem = Killing(str(mark))
    make_ready("dask", problem.evaluate)
    with two_workers(tmp_path) as executor:
        found = dict(Workers(executor, "dask", problem).evaluate(CONFIGURATIONS))
    assert int(mark.read_text()) != os.getpid()
    assert [found[i] for i in range(len(CONFIGURATIONS))] == [
        Outcome(i / 100, size=i) for i in range(len(CONFIGURATIONS))
    ]
