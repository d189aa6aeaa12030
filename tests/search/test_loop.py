"""The search as a whole, on worlds of formulas: what it finds, and that nothing disturbs it."""

from __future__ import annotations

import json
import math
from collections.abc import Generator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.search.worlds import World
from uqfc.dialects.quant.decisions import Reason
from uqfc.search import planning
from uqfc.search.constraints import Constraints, Metric
from uqfc.search.loop import METHODS
from uqfc.search.result import SearchResult

pytest.importorskip("scipy")


@pytest.fixture(autouse=True, scope="module")
def fewer_rounds() -> Generator[None]:
    """Worlds are small."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "ROUNDS", 10)
        yield


def limits_of(world: World) -> Constraints:
    """Limits that some configurations meet, and uniform ones do not meet well."""
    rows = world.space.all_rows()
    return Constraints(
        accuracy=float(np.quantile(world.accuracy(rows), 0.6)),
        latency=0.05 + float(np.quantile(world.latency(rows), 0.7)),
    )


def beats(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    """Domination."""
    return all(a <= b for a, b in zip(one, other, strict=True)) and one != other


def same(one: SearchResult, other: SearchResult) -> bool:
    """All but how much came from the journal."""
    documents = [each.document() | {"fresh": 0} for each in (one, other)]
    return documents[0] == documents[1]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("seed", [1, 2])
def test_every_method_meets_the_limits_and_comes_near_the_smallest(method: str, seed: int) -> None:
    world = World(seed)
    limits = limits_of(world)
    result = world.search(limits, method)
    possible = world.feasible(limits)
    smallest = min(size for _, size in possible.values())
    assert result.feasible
    assert result.chosen is not None
    assert result.configuration is not None
    assert world.space.row(result.configuration).tobytes() in possible
    assert result.chosen.outcome.size is not None
    assert result.chosen.outcome.size <= 1.1 * smallest
    assert len(result.candidates) <= 24
    assert world.count == len(result.candidates) == result.fresh


@pytest.mark.parametrize("method", METHODS)
def test_a_seed_means_the_same_search(method: str) -> None:
    limits = limits_of(World(3))
    assert same(World(3).search(limits, method), World(3).search(limits, method))


@given(st.data())
@settings(max_examples=8)
def test_from_any_prefix_of_the_journal_the_result_is_the_same(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("search") / "journal"
    limits = limits_of(World(4))
    whole = World(4).search(limits, journal=path, budget=16)
    content = path.read_bytes()
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    world = World(4)
    resumed = world.search(limits, journal=path, budget=16)
    assert same(whole, resumed)
    assert sorted(path.read_bytes().splitlines()) == sorted(content.splitlines())


@pytest.mark.parametrize("patience", [0, 1, 5, 11])
def test_what_was_evaluated_before_an_interruption_is_not_evaluated_again(
    tmp_path: Path, patience: int
) -> None:
    limits = limits_of(World(5))
    whole = World(5).search(limits)
    stopped = World(5, patience)
    with pytest.raises(KeyboardInterrupt):
        stopped.search(limits, journal=tmp_path / "journal")
    world = World(5)
    resumed = world.search(limits, journal=tmp_path / "journal")
    assert same(whole, resumed)
    assert world.count == len(whole.candidates) - patience == resumed.fresh


@pytest.mark.parametrize("method", METHODS)
def test_candidates_that_fail_are_recorded_and_the_search_goes_on(method: str) -> None:
    world = World(6, failing="int4")
    limits = Constraints(accuracy=limits_of(world).accuracy)
    result = world.search(limits, method)
    failed = [c for c in result.candidates if c.outcome.error is not None]
    assert failed
    assert {c.outcome.error for c in failed} == {"evaluate raised ValueError: no"}
    assert result.feasible
    assert result.chosen is not None
    assert result.chosen.outcome.error is None
    assert not any(c.pareto for c in failed)
    json.dumps(result.document(), allow_nan=False)


def test_where_nothing_can_be_evaluated_there_is_no_result_but_a_report() -> None:
    result = World(6, failing="").search(Constraints(accuracy=0.5), budget=5)
    assert not result.feasible
    assert all(c.outcome.accuracy is None for c in result.candidates)
    assert result.infeasibility is not None
    assert result.infeasibility.nearest == ()
    json.dumps(result.document(), allow_nan=False)


def test_the_most_accurate_within_a_size() -> None:
    world = World(7)
    limits = Constraints(size=float(np.quantile(world.size(world.space.all_rows()), 0.4)))
    result = world.search(limits)
    best = max(accuracy for accuracy, _ in world.feasible(limits).values())
    assert result.objective == Metric.ACCURACY
    assert result.chosen is not None
    assert result.chosen.outcome.accuracy is not None
    assert result.chosen.outcome.accuracy >= best - 0.005


def test_the_fastest_that_is_accurate_enough() -> None:
    world = World(8)
    limits = Constraints(accuracy=limits_of(world).accuracy)
    result = world.search(limits, objective=Metric.LATENCY)
    assert result.chosen is not None
    assert result.chosen.outcome.latency is not None
    assert result.chosen.outcome.latency == min(
        c.outcome.latency
        for c in result.candidates
        if c.outcome.latency is not None and (c.outcome.accuracy or 0) >= (limits.accuracy or 0)
    )


def test_contradictory_limits_are_reported_with_what_is_missing() -> None:
    world = World(9)
    rows = world.space.all_rows()
    limits = Constraints(
        accuracy=float(world.accuracy(rows[:1])[0]), size=float(world.size(rows).min())
    )
    result = world.search(limits)
    assert not result.feasible
    assert result.configuration is None
    assert result.model is None
    report = result.infeasibility
    assert report is not None
    accuracy, size = report.unmet
    assert size.metric == Metric.SIZE
    assert size.alone == world.size(rows).min() == size.best
    assert size.with_others is not None
    assert size.with_others > size.limit
    assert size.fails_by == size.with_others - size.limit
    assert accuracy.alone is not None
    assert accuracy.with_others is not None
    assert accuracy.with_others < accuracy.limit
    assert report.nearest
    json.dumps(result.document(), allow_nan=False)


def test_a_limit_that_nothing_meets_by_itself() -> None:
    world = World(9)
    least = float(world.size(world.space.all_rows()).min())
    result = world.search(Constraints(accuracy=0.1, size=least - 1))
    assert result.infeasibility is not None
    fails = {each.metric: each.fails_by for each in result.infeasibility.unmet}
    assert fails == {Metric.ACCURACY: 0.0, Metric.SIZE: 1.0}


def test_the_front_is_what_no_candidate_dominates() -> None:
    result = World(10).search(limits_of(World(10)))
    outcomes = [c.outcome for c in result.candidates]
    points = [(-(o.accuracy or 0), o.size or 0, o.latency or 0) for o in outcomes]
    for point, candidate in zip(points, result.candidates, strict=True):
        beaten = any(
            all(a <= b for a, b in zip(p, point, strict=True)) and p != point for p in points
        )
        assert candidate.pareto == (not beaten)
    assert [c.outcome.size for c in result.front] == sorted(
        c.outcome.size or 0 for c in result.front
    )
    table = result.pareto()
    assert "uniform int8" in table
    assert "chosen" in table
    assert table.splitlines()[-1].startswith("float32")


def test_the_gap_is_that_to_the_exact_optimum_of_the_surrogate() -> None:
    result = World(11).search(limits_of(World(11)), "ilp")
    assert result.optimality is not None
    assert 0 <= result.optimality.gap < 0.2
    assert result.optimality.bound <= result.optimality.value


def test_every_layer_says_why() -> None:
    world = World(12)
    result = world.search(limits_of(world))
    assert result.decisions is not None
    assert result.configuration is not None
    assert result.model == result.decisions
    for layer, decision in result.decisions.items():
        assert decision.chosen == result.configuration[layer]
        assert (decision.reason == Reason.REQUESTED) <= (decision.requested == decision.chosen)
    assert {d.reason for d in result.decisions.values()} & {
        Reason.ACCURACY_CONSTRAINT,
        Reason.LATENCY_CONSTRAINT,
        Reason.SENSITIVE,
    }


def test_a_budget_of_one_is_one_evaluation_and_no_time_is_the_uniform_types() -> None:
    world = World(13)
    assert len(world.search(Constraints(accuracy=0.1), budget=1).candidates) == 1
    result = world.search(Constraints(accuracy=0.1), seconds=-math.inf)
    assert [c.label for c in result.candidates] == [
        "uniform int8",
        "uniform int4",
        "uniform ternary",
    ]


def test_the_plot_is_an_svg_of_all_candidates(tmp_path: Path) -> None:
    result = World(14).search(Constraints(accuracy=0.5, size=1e5))
    result.plot(tmp_path / "front.svg")
    text = (tmp_path / "front.svg").read_text()
    assert text.startswith("<svg ")
    assert text.count("<circle") == len(result.candidates)
    assert text.count("stroke-dasharray") == 2
    assert ">chosen<" in text
    assert text == result.svg()
    result.save(tmp_path / "result.json")
    assert json.loads((tmp_path / "result.json").read_text()) == result.document()
