"""Executors: the outcomes are those of one process, in order, whoever computes them and dies."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Generator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from threading import Lock
from typing import Any

import pytest

from uqfc.errors import UqfcError
from uqfc.search.evaluation import Configuration, Outcome
from uqfc.search.jobs import AT_HAND, Workers, make_ready

CONFIGURATIONS = [{"a": "int8", "b": dtype} for dtype in ("int8", "int4", "ternary", "binary")]


@dataclass(frozen=True)
class Fake:
    """Accuracies from names. The first evaluation of ``deadly`` ends its process, once."""

    deadly: str = ""
    mark: str = ""

    def open(self) -> Callable[[Configuration], Outcome]:
        return self.evaluate

    def evaluate(self, configuration: Configuration) -> Outcome:
        dtype = configuration["b"]
        if dtype == self.deadly and not (self.mark and Path(self.mark).exists()):
            if self.mark:
                Path(self.mark).touch()
            os._exit(1)
        return Outcome(len(dtype) / 10, size=len(dtype))


EXPECTED = [Fake().evaluate(each) for each in CONFIGURATIONS]


@contextmanager
def ready(problem: Fake) -> Generator[None]:
    """The problem at hand in this process."""
    make_ready("fake", problem.evaluate)
    try:
        yield
    finally:
        AT_HAND.clear()


def outcomes(executor: Executor | None, problem: Fake) -> tuple[list[Outcome], list[str]]:
    with ready(problem):
        workers = Workers(executor, "fake", problem)
        found = dict(workers.evaluate(CONFIGURATIONS))
        return [found[place] for place in range(len(found))], workers.notes


def test_without_an_executor() -> None:
    assert outcomes(None, Fake()) == (EXPECTED, [])


def test_threads() -> None:
    with ThreadPoolExecutor(3) as pool:
        assert outcomes(pool, Fake()) == (EXPECTED, [])


def test_processes_that_inherit_nothing_are_sent_the_problem() -> None:
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        assert outcomes(pool, Fake()) == (EXPECTED, [])


def test_a_broken_pool_does_not_change_outcomes(tmp_path: Path) -> None:
    problem = Fake("int4", str(tmp_path / "died"))
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        found, notes = outcomes(pool, problem)
    assert found == EXPECTED
    assert notes == ["the executor is broken: its tasks go on in a process of their own"]


def test_a_candidate_that_always_kills_its_process_is_recorded_and_the_others_are_not() -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        found, _ = outcomes(pool, Fake("int4"))
    assert found[1] == Outcome(None, error="the process that evaluated it died")
    assert [found[0], *found[2:]] == [EXPECTED[0], *EXPECTED[2:]]


class Unreliable(Executor):
    """Every task fails the first ``failures`` times, as if its worker were lost."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.seen: dict[str, int] = {}

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        dtype = args[0].configuration["b"]
        self.seen[dtype] = self.seen.get(dtype, 0) + 1
        if self.seen[dtype] <= self.failures:
            future.set_exception(ConnectionError("gone"))
        else:
            future.set_result(fn(*args, **kwargs))
        return future


def test_lost_workers_are_tried_again() -> None:
    found, notes = outcomes(Unreliable(2), Fake())
    assert found == EXPECTED
    assert len(notes) == 2 * len(EXPECTED)


def test_a_task_whose_worker_is_lost_again_and_again_is_recorded() -> None:
    found, _ = outcomes(Unreliable(3), Fake())
    error = "the worker was lost 3 times: ConnectionError: gone"
    assert found == [Outcome(None, error=error)] * len(EXPECTED)


class Foreign(Executor):
    """Another process, as far as it matters: nothing is at hand, all goes through pickle."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        kept = dict(AT_HAND)
        AT_HAND.clear()
        future: Future[Any] = Future()
        try:
            future.set_result(pickle.loads(pickle.dumps(fn(*pickle.loads(pickle.dumps(args))))))
        finally:
            AT_HAND.clear()
            AT_HAND.update(kept)
        return future


def test_what_cannot_be_sent_is_said() -> None:
    problem = Fake()
    object.__setattr__(problem, "mark", Lock())
    with ready(Fake()):
        workers = Workers(Foreign(), "fake", problem)
        with pytest.raises(UqfcError, match="cannot be sent to another process"):
            list(workers.evaluate(CONFIGURATIONS))
