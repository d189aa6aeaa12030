"""Paired measurement of latencies: candidates take turns, so that all see the same machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Latency:
    """Of ``runs`` calls, in milliseconds each."""

    runs: int
    minimum: float
    median: float
    p90: float

    @staticmethod
    def of(nanoseconds: Sequence[int]) -> Latency:
        """Summarize the durations of at least one call."""
        minimum, median, p90 = np.percentile(nanoseconds, (0, 50, 90)) / 1e6
        return Latency(len(nanoseconds), float(minimum), float(median), float(p90))


def measure(
    candidates: Mapping[str, Callable[[], object]], runs: int, warmup: int
) -> dict[str, Latency]:
    """Call the candidates in turn, ``runs`` times each after ``warmup`` calls that do not count.

    Absolute times change from one minute to the next: compare what one call of this returned.
    """
    durations: dict[str, list[int]] = {name: [] for name in candidates}
    for i in range(-warmup, runs):
        for name, call in candidates.items():
            start = time.perf_counter_ns()
            call()
            stop = time.perf_counter_ns()
            if i >= 0:
                durations[name].append(stop - start)
    return {name: Latency.of(taken) for name, taken in durations.items()}


def measure_parallel(
    call: Callable[[], object], callers: int, runs: int, warmup: int
) -> tuple[Latency, float]:
    """``callers`` at once, ``runs`` calls each: latency of a call, and calls a second."""
    calls = [call] * callers
    with ThreadPoolExecutor(callers) as pool:
        list(pool.map(_durations, calls, [warmup] * callers))
        start = time.perf_counter_ns()
        taken = list(pool.map(_durations, calls, [runs] * callers))
        elapsed = time.perf_counter_ns() - start
    return Latency.of([t for one in taken for t in one]), callers * runs / (elapsed / 1e9)


def _durations(call: Callable[[], object], runs: int) -> list[int]:
    durations: list[int] = []
    for _ in range(runs):
        start = time.perf_counter_ns()
        call()
        durations.append(time.perf_counter_ns() - start)
    return durations
