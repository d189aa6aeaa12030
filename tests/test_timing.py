"""Measurement: who is called how often, and in which order."""

from __future__ import annotations

import threading
from functools import partial

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from uqfc.timing import Latency, measure, measure_parallel


@given(st.lists(st.integers(0, 10**12), min_size=1))
def test_latency_is_in_milliseconds_and_ordered(durations: list[int]) -> None:
    latency = Latency.of(durations)
    assert latency.runs == len(durations)
    assert latency.minimum == min(durations) / 1e6
    assert latency.minimum <= latency.median <= latency.p90 <= max(durations) / 1e6
    assert latency.median == float(np.median(durations)) / 1e6


@given(st.integers(1, 5), st.integers(0, 3), st.integers(1, 3))
def test_candidates_take_turns(runs: int, warmup: int, candidates: int) -> None:
    calls: list[str] = []
    names = [f"candidate {i}" for i in range(candidates)]
    latencies = measure({name: partial(calls.append, name) for name in names}, runs, warmup)
    assert calls == names * (runs + warmup)
    assert [latency.runs for latency in latencies.values()] == [runs] * candidates


def test_parallel_callers_run_at_once() -> None:
    threads = 3
    barrier = threading.Barrier(threads, timeout=30)  # passes only when all callers are in a call
    latency, rate = measure_parallel(barrier.wait, threads, runs=4, warmup=1)
    assert latency.runs == 4 * threads
    assert rate > 0
