"""The workers that help a caller: threads that wait in native code for its next run."""

from __future__ import annotations

import os
import weakref
from threading import Lock, Thread, current_thread

import numpy as np
from numpy.typing import NDArray

from uqfc_runtime.binding import Code, aligned_bytes
from uqfc_runtime.errors import ExecutionError
from uqfc_runtime.info import TEAM_BYTES


class Team:
    """``threads - 1`` workers of one model, started with the first run.

    They end when this object is garbage collected, or with the interpreter. After a fork the child
    starts its own.
    """

    def __init__(self, code: Code, threads: int) -> None:
        self._code = code
        self._threads = threads
        self._crew: _Crew | None = None
        self._lock = Lock()
        _teams.add(self)

    def run(self, inputs: int, outputs: int, arena: int) -> int:
        """See ``Code.run_team``. ExecutionError if the workers cannot be started."""
        crew = self._crew or self._start()
        return self._code.run_team(inputs, outputs, arena, crew.address, self._threads)

    def _start(self) -> _Crew:
        with self._lock:
            if self._crew is None:
                self._crew = crew = _Crew(self._code, self._threads)
                weakref.finalize(self, crew.end, self._code)
            return self._crew

    def forget_workers(self) -> None:
        """In the child of a fork, which has none of its parent's threads."""
        self._lock = Lock()
        self._crew = None


class _Crew:
    """Running workers and the memory through which they are called."""

    def __init__(self, code: Code, threads: int) -> None:
        self._pid = os.getpid()
        self._memory = aligned_bytes(TEAM_BYTES, 64)
        self._memory[:] = 0
        self.address = self._memory.ctypes.data
        self._workers: list[Thread] = []
        try:
            for part in range(1, threads):
                self._workers.append(_start_worker(code, self._memory, part, threads))
        except RuntimeError as error:
            self.end(code)
            raise ExecutionError(f"cannot start {threads - 1} worker threads: {error}") from error

    def end(self, code: Code) -> None:
        """Ends the workers and waits for them, unless a daemon thread's run keeps them busy."""
        if self._pid != os.getpid() or code.end_team(self.address):
            return
        for worker in self._workers:
            if worker is not current_thread():
                worker.join()


def _start_worker(code: Code, memory: NDArray[np.uint8], part: int, parts: int) -> Thread:
    """A thread that keeps the code and the team's memory alive while it runs."""

    def work() -> None:
        code.work(memory.ctypes.data, part, parts)

    worker = Thread(target=work, name=f"uqfc-worker-{part}", daemon=True)
    worker.start()
    return worker


def available_cpus() -> int:
    """CPUs that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


_teams: weakref.WeakSet[Team] = weakref.WeakSet()


def _forget_all_workers() -> None:
    for team in list(_teams):
        team.forget_workers()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all_workers)
