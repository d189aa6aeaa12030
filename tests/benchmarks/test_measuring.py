"""Candidates: who is called, in which order, and what becomes of those that cannot be."""

from __future__ import annotations

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.candidates import Candidate, UnavailableError, all_ready, is_ours, need, one_line
from benchmarks.layers import LARGE, SHORTEST, LayerWorkload, difference, measure
from benchmarks.measuring import Duration, Plan, summary, take_single_turns, take_turns
from uqfc.timing import Latency

BRIEF = Plan(seconds=0, uncounted=1, counted=2, least_turns=3, warmup=0, turn=10**12)


def test_turns_rotate_and_count_only_the_later_calls() -> None:
    calls: list[str] = []
    candidates = [Candidate(name, partial(calls.append, name)) for name in "ab"]
    latencies = take_turns(candidates, BRIEF)
    warm_up, turns = "aaabbb", "aaabbbbbbaaaaaabbb"
    assert "".join(calls) == warm_up + turns
    assert {name: one.latency.runs for name, one in latencies.items()} == {"a": 6, "b": 6}


def test_interrupted_calls_count_only_where_others_are_few() -> None:
    calm = [Duration(1_000_000, interrupted=False)]
    disturbed = [Duration(9_000_000, interrupted=True)]
    found = summary(calm * 30 + disturbed * 10)
    assert found.latency == Latency(30, 1.0, 1.0, 1.0)
    assert found.interrupted == 0.25
    assert summary(calm * 9 + disturbed).latency.runs == 10
    assert summary(disturbed).interrupted == 1.0


def test_single_turns_change_after_every_call() -> None:
    calls: list[str] = []
    candidates = [Candidate(name, partial(calls.append, name)) for name in "ab"]
    take_single_turns(candidates, {}, Plan(seconds=0, single_turns=(3, 9)))
    assert "".join(calls) == "ab" * 4


def test_a_candidate_that_fails_is_a_row_with_its_reason() -> None:
    def fails() -> object:
        raise OSError("no\nsuch  file")

    def loads_but_fails() -> object:
        return fails

    def missing() -> object:
        need("json", "a_module_that_there_is_not")
        raise AssertionError

    found = all_ready(
        {"fails": fails, "late": loads_but_fails, "missing": missing, "works": lambda: dict}  # type: ignore[dict-item]
    )
    assert [c.reason for c in found] == [
        "OSError: no such file",
        "OSError: no such file",
        "not installed: a_module_that_there_is_not",
        "",
    ]
    assert [c.name for c in found if c.call is not None] == ["works"]
    assert list(take_turns(found, BRIEF)) == ["works"]
    assert take_turns(found[:3], BRIEF) == {}


def test_reasons_fit_a_table() -> None:
    assert one_line(UnavailableError("why")) == "why"
    assert one_line(ValueError()) == "ValueError: ValueError"
    assert len(one_line(ValueError("x" * 1000))) == 160


def test_ours_are_known_by_name() -> None:
    assert is_ours("uqfc int4")
    assert not is_ours("ONNX Runtime int8")


@given(st.floats(0.001, 1.0), st.floats(0.001, 1.0))
def test_a_layer_is_the_difference_of_two_models(overhead: float, layer: float) -> None:
    def latency(layers: int) -> Latency:
        time = overhead + layers * layer
        return Latency(10, time, time, time)

    assert difference(latency(1), latency(5), 4).median == pytest.approx(layer)
    assert difference(latency(5), latency(1), 4).median == SHORTEST


def test_long_and_large_layers_are_measured_alone() -> None:
    seen: list[int] = []

    def factory(copies: int) -> object:
        seen.append(copies)
        return dict

    short = LayerWorkload("short", 1000, {"uqfc int4": factory})  # type: ignore[dict-item]
    long = LayerWorkload("long", 10**9, {"uqfc int4": factory})  # type: ignore[dict-item]
    assert [r.candidate for r in measure(short, BRIEF).rows] == ["uqfc int4"]
    assert seen == [1, 5]
    large = LayerWorkload("large", 1000, {"uqfc int4": factory}, LARGE)  # type: ignore[dict-item]
    measure(long, BRIEF)
    measure(large, BRIEF)
    assert seen == [1, 5, 1, 1]


def test_a_layer_without_one_of_its_models_is_missing() -> None:
    def factory(copies: int) -> object:
        if copies > 1:
            raise UnavailableError("too many")
        return dict

    (row,) = measure(LayerWorkload("layer", 1, {"peer": factory}), BRIEF).rows  # type: ignore[dict-item]
    assert row.latency is None
    assert row.reason == "too many"
