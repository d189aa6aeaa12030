"""A real Dask scheduler with two worker processes, one of which is killed in the middle."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from uqfc.search.evaluation import Configuration, Outcome
from uqfc.search.jobs import Workers, make_ready

distributed = pytest.importorskip("distributed")

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


@pytest.mark.filterwarnings("ignore")  # of the scheduler, about the worker that it loses
def test_a_worker_that_is_killed_does_not_change_the_outcomes(tmp_path: Path) -> None:
    mark = tmp_path / "killed"
    problem = Killing(str(mark))
    make_ready("dask", problem.evaluate)
    settings: dict[str, Any] = {
        "n_workers": 2,
        "threads_per_worker": 1,
        "processes": True,
        "dashboard_address": None,
        "local_directory": str(tmp_path),
        "silence_logs": 50,
    }
    with distributed.LocalCluster(**settings) as cluster, distributed.Client(cluster) as client:
        workers = Workers(client.get_executor(), "dask", problem)
        found = dict(workers.evaluate(CONFIGURATIONS))
    assert int(mark.read_text()) != os.getpid()
    assert [found[i] for i in range(len(CONFIGURATIONS))] == [
        Outcome(i / 100, size=i) for i in range(len(CONFIGURATIONS))
    ]
