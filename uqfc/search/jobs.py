"""Candidates evaluated by any ``concurrent.futures.Executor``: threads, processes, Dask.

A task names the problem by its key and carries a configuration, nothing else. Whoever has the
problem at hand evaluates: threads of this process, processes forked from it, and those that it was
sent to before. Whoever has not answers so, and is sent the task with the problem, which it keeps.
A task whose worker dies is tried again; where a pool is broken for good, its tasks go on in a
process of their own. As an evaluation depends on nothing but problem and configuration, outcomes
are the same in any case, and on any number of workers.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    Executor,
    Future,
    ProcessPoolExecutor,
    wait,
)
from dataclasses import dataclass
from importlib import import_module
from multiprocessing import get_context
from typing import Protocol

from uqfc.errors import UqfcError
from uqfc.search.evaluation import Configuration, Outcome

TRIES = 3
"""Times that a task is submitted whose worker dies."""


class Problem(Protocol):
    """What workers need; it can be pickled."""

    def open(self) -> Callable[[Configuration], Outcome]:
        """Make ready to evaluate, which may take long."""
        ...


@dataclass(frozen=True)
class Task:
    """Plain data. ``problem``: pickled, if the worker is known not to have it."""

    key: str
    configuration: dict[str, str]
    problem: bytes | None = None


AT_HAND: dict[str, Callable[[Configuration], Outcome]] = {}
"""Problems that this process can evaluate, by key."""


def perform(task: Task) -> Outcome | None:
    """Evaluate in this process; None where the problem is missing."""
    evaluate = AT_HAND.get(task.key)
    if evaluate is None:
        if task.problem is None:
            return None
        problem: Problem = pickle.loads(task.problem)  # of our own making
        evaluate = AT_HAND.setdefault(task.key, problem.open())
    return evaluate(task.configuration)


def pickled(problem: Problem) -> bytes:
    """The problem as bytes, functions by value where cloudpickle is installed and needed.

    Raises UqfcError where something in it cannot be sent to another process.
    """
    try:
        return pickle.dumps(problem)
    except Exception as first:  # noqa: BLE001 # pickling runs code of others
        try:
            return import_module("cloudpickle").dumps(problem)
        except Exception:  # noqa: BLE001
            raise UqfcError(
                f"executor: the model or `evaluate` cannot be sent to another process ({first}); "
                "define it at the top level of a module, or use threads"
            ) from None


class Workers:
    """Evaluates batches. ``key``: of the problem, under which it is in ``AT_HAND`` here."""

    def __init__(self, executor: Executor | None, key: str, problem: Problem) -> None:
        self.executor = executor
        self.key = key
        self.problem = problem
        self.notes: list[str] = []
        self._content: bytes | None = None

    def evaluate(self, configurations: Sequence[Configuration]) -> Iterator[tuple[int, Outcome]]:
        """Outcomes with the places of their configurations, each as soon as it is there."""
        tasks = [Task(self.key, dict(each)) for each in configurations]
        if self.executor is None:
            for place, task in enumerate(tasks):
                outcome = perform(task)
                assert outcome is not None  # this process has the problem
                yield place, outcome
            return
        lost = [0] * len(tasks)
        running = {self.submit(task): place for place, task in enumerate(tasks)}
        while running:
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                place = running.pop(future)
                outcome = self.settle(tasks[place], future, lost, place)
                if outcome is not None:
                    yield place, outcome
                    continue
                whole = Task(self.key, tasks[place].configuration, self.content())
                running[self.submit(whole)] = place

    def submit(self, task: Task) -> Future[Outcome | None]:
        """The future; one that failed where the executor takes no more tasks."""
        assert self.executor is not None
        try:
            return self.executor.submit(perform, task)
        except BrokenExecutor as error:
            failed: Future[Outcome | None] = Future()
            failed.set_exception(error)
            return failed

    def settle(
        self, task: Task, future: Future[Outcome | None], lost: list[int], place: int
    ) -> Outcome | None:
        """The outcome of a task that is done; None where it is to be submitted again, whole."""
        try:
            return future.result()
        except BrokenExecutor:
            return self.apart(task)
        except Exception as error:  # noqa: BLE001 # each kind of executor has its own
            lost[place] += 1
            reason = f"{type(error).__name__}: {error}"
        if lost[place] == TRIES:
            return Outcome(None, error=f"the worker was lost {TRIES} times: {reason}")
        self.notes.append(f"a worker was lost ({reason}); its task is tried again")
        return None

    def apart(self, task: Task) -> Outcome:
        """By a new process, because the pool is broken; if that dies too, the candidate is to
        blame."""
        note = "the executor is broken: its tasks go on in a process of their own"
        if note not in self.notes:
            self.notes.append(note)
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
            try:
                whole = Task(task.key, task.configuration, self.content())
                outcome = alone.submit(perform, whole).result()
            except BrokenExecutor:
                return Outcome(None, error="the process that evaluated it died")
        return outcome or Outcome(None, error="the process that evaluated it had no problem")

    def content(self) -> bytes:
        """The problem for who has it not."""
        if self._content is None:
            self._content = pickled(self.problem)
        return self._content


def make_ready(key: str, evaluate: Callable[[Configuration], Outcome]) -> None:
    """Have a problem at hand in this process, and in those that it forks from now on. It replaces
    the one before: this process keeps one."""
    AT_HAND.clear()
    AT_HAND[key] = evaluate
