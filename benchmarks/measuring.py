"""Paired measurement: candidates take turns on the same core, warmed up.

``take_turns`` measures the steady state: a turn is some calls of one candidate, the first of which
do not count, so that it finds caches and threads as its own last call left them, while all
candidates see the same minutes of the machine. With several threads there is a rest before each
turn: libraries let their threads spin for a while after a call, and must not take the core from
the next one. Calls during which the system gave a core to another process do not count, unless
hardly any others are left: they would measure that process.

``take_single_turns`` changes the candidate after every call: each finds caches that the others
filled.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.candidates import Call, Candidate
from uqfc.timing import Latency
from uqfc.timing import measure as measure_call_by_call

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "TBB_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
ENOUGH = 10
"""Calls without interruption from which those with one do not count."""
SPARE_LOAD = 0.5
"""Processes besides the threads that are measured, on average over a minute, in a quiet machine."""

MILLISECOND = 1_000_000
"""In nanoseconds."""


@dataclass(frozen=True)
class Measured:
    """Of one candidate; ``interrupted`` is the share of its calls during which others ran."""

    latency: Latency
    interrupted: float


@dataclass(frozen=True)
class Duration:
    """Of one call, in nanoseconds."""

    taken: int
    interrupted: bool


@dataclass(frozen=True)
class Plan:
    """How long to measure: ``seconds`` for all candidates of a workload together."""

    seconds: float = 6.0
    uncounted: int = 3
    """Calls at the start of a turn that do not count, at most."""
    counted: int = 20
    """Calls of a turn that count, at most."""
    turn: int = 30 * MILLISECOND
    """Nanoseconds after which a turn ends early; a call of each sort is made in any case."""
    least_turns: int = 5
    warmup: int = 100 * MILLISECOND
    """Nanoseconds of calls before the first turn, three calls at least."""
    rest: float = 0.0
    """Seconds of sleep before each turn."""
    single_turns: tuple[int, int] = (5, 50)
    """Least and most calls of each candidate in ``take_single_turns``."""

    @staticmethod
    def of(seconds: float, threads: int) -> Plan:
        """The plan of that duration; with several threads it rests before turns."""
        return Plan(seconds=seconds, rest=0.004 if threads > 1 else 0.0)


def restrict(threads: int) -> None:
    """Bind this process to the highest ``threads`` cores, and its libraries to as many threads.

    To be called before the libraries are imported: they read the environment when they start, and
    their threads inherit the cores. Raises ValueError if there are not that many cores.
    """
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) < threads:
            raise ValueError(f"{threads} threads need as many cores; this process has {len(cores)}")
        os.sched_setaffinity(0, cores[-threads:])
    for variable in THREAD_VARIABLES:
        os.environ[variable] = str(threads)


def load_average() -> float:
    """Processes that wanted to run, on average over the last minute."""
    return os.getloadavg()[0]


def is_busy(load: float, threads: int) -> bool:
    """Whether a load average while ``threads`` were measured is too high to trust figures."""
    return load > threads + SPARE_LOAD


def take_turns(candidates: Sequence[Candidate], plan: Plan) -> dict[str, Measured]:
    """What was measured of the candidates that have a call, by name; the order rotates."""
    calls = [(c.name, c.call) for c in candidates if c.call is not None]
    durations: dict[str, list[Duration]] = {name: [] for name, _ in calls}
    for _, call in calls:
        warm_up(call, plan.warmup)
    started = time.perf_counter()
    rounds = 0
    while calls and (rounds < plan.least_turns or time.perf_counter() - started < plan.seconds):
        first = rounds % len(calls)
        for name, call in calls[first:] + calls[:first]:
            durations[name] += one_turn(call, plan)
        rounds += 1
    return {name: summary(found) for name, found in durations.items()}


def summary(durations: Sequence[Duration]) -> Measured:
    """Of at least one call."""
    undisturbed = [d.taken for d in durations if not d.interrupted]
    counted = undisturbed if len(undisturbed) >= ENOUGH else [d.taken for d in durations]
    return Measured(Latency.of(counted), 1 - len(undisturbed) / len(durations))


def interruptions() -> int:
    """How often the system took a core from a thread of this process before it would wait."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def take_single_turns(
    candidates: Sequence[Candidate], steady: Mapping[str, Measured], plan: Plan
) -> dict[str, Latency]:
    """Latencies call by call, in a quarter of the plan's time; ``steady``: of ``take_turns``."""
    calls = {c.name: c.call for c in candidates if c.call is not None}
    least, most = plan.single_turns
    round_seconds = sum(one.latency.median for one in steady.values()) / 1e3
    runs = int(plan.seconds / 4 / round_seconds) if round_seconds else least
    return measure_call_by_call(calls, min(most, max(least, runs)), 1) if calls else {}


def warm_up(call: Call, nanoseconds: int) -> None:
    """Call for that long, and three times at least."""
    stop = time.perf_counter_ns() + nanoseconds
    calls = 0
    while calls < 3 or time.perf_counter_ns() < stop:
        call()
        calls += 1


def one_turn(call: Call, plan: Plan) -> list[Duration]:
    """Durations of a turn's counted calls."""
    if plan.rest:
        time.sleep(plan.rest)
    begin = time.perf_counter_ns()
    for _ in range(plan.uncounted):
        call()
        if time.perf_counter_ns() - begin >= plan.turn // 4:
            break
    durations: list[Duration] = []
    while len(durations) < plan.counted:
        before = interruptions()
        start = time.perf_counter_ns()
        call()
        stop = time.perf_counter_ns()
        durations.append(Duration(stop - start, interruptions() != before))
        if stop - begin >= plan.turn:
            break
    return durations
