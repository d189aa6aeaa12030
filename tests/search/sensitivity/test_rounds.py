"""Rounds, their criterion, and checkpoints, on measurements that cost nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from uqfc.errors import UqfcError
from uqfc.numerics import F64
from uqfc.search.sensitivity import Item, Rounds
from uqfc.search.sensitivity.adaptive import Step, run_rounds
from uqfc.search.sensitivity.checkpoint import Checkpoint
from uqfc.search.sensitivity.estimates import kendall

LAYERS = tuple("abcdef")


class Synthetic:
    """Layer number i has the mean i, and noise."""

    def __init__(self, noise: float, available: int = 1000) -> None:
        self.available = available
        self.values = {
            layer: index + noise * np.random.default_rng([3, index]).standard_normal(available)
            for index, layer in enumerate(LAYERS)
        }
        self.measured = 0

    @property
    def scale(self) -> Mapping[Item, tuple[str, float]]:
        return {(layer, "int4"): (layer, 2.0) for layer in LAYERS}

    def steps(self, counts: Mapping[str, int], size: int) -> Sequence[Step]:
        return [
            partial(self.measure, layer, counts[layer], size)
            for layer in LAYERS
            if counts[layer] < size
        ]

    def measure(self, layer: str, start: int, stop: int) -> dict[str, F64]:
        self.measured += stop - start
        return {layer: self.values[layer][start:stop]}


def units(values: Mapping[str, F64]) -> set[int]:
    return {len(each) for each in values.values()}


def test_a_clear_ranking_needs_one_round() -> None:
    values, agreement = run_rounds(Synthetic(0.0), Rounds(4, 64), None, None)
    assert units(values) == {4}
    assert agreement == 1.0


def test_noise_needs_more() -> None:
    rounds = Rounds(4, 512, agreement=1.0)
    values, agreement = run_rounds(Synthetic(3.0), rounds, None, None)
    (size,) = units(values)
    halves = [[values[layer][half::2].mean() for layer in LAYERS] for half in (0, 1)]
    assert 4 < size <= 512
    assert agreement == kendall(*map(np.array, halves))
    assert agreement == 1.0 or size == 512


@pytest.mark.parametrize(("available", "expected"), [(100, 64), (50, 50), (3, 3)])
def test_units_end_at_the_limit_and_where_there_are_no_more(available: int, expected: int) -> None:
    values, _ = run_rounds(Synthetic(1e6, available), Rounds(4, 64, agreement=1.1), None, None)
    assert units(values) == {expected}


def test_nothing_is_measured_twice() -> None:
    measurement = Synthetic(1e6)
    run_rounds(measurement, Rounds(4, 64, agreement=1.1), None, None)
    assert measurement.measured == 64 * len(LAYERS)


def test_progress_counts_steps() -> None:
    seen: list[tuple[str, int, int]] = []
    progress = lambda *step: seen.append(step)  # noqa: E731
    run_rounds(Synthetic(0.0), Rounds(4, 64), progress, None)
    assert [(done, total) for _, done, total in seen] == [(i + 1, 6) for i in range(6)]


@pytest.mark.parametrize("stop_after", [1, 4, 6, 7, 11])
def test_an_interrupted_measurement_goes_on_to_the_same_result(
    tmp_path: Path, stop_after: int
) -> None:
    rounds, path = Rounds(4, 16, agreement=1.1), tmp_path / "checkpoint.json"
    expected, _ = run_rounds(Synthetic(1.0), rounds, None, None)
    done = 0

    def progress(*_: object) -> None:
        nonlocal done
        done += 1
        if done == stop_after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_rounds(Synthetic(1.0), rounds, progress, Checkpoint(path, "kl", "key"))
    again = Synthetic(1.0)
    values, _ = run_rounds(again, rounds, None, Checkpoint(path, "kl", "key"))
    assert again.measured < 16 * len(LAYERS)
    assert {k: v.tolist() for k, v in values.items()} == {
        k: v.tolist() for k, v in expected.items()
    }
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.json"]


def test_a_checkpoint_of_larger_rounds_gives_what_smaller_ones_would(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.json"
    never = Rounds(4, 64, agreement=1.1)
    run_rounds(Synthetic(1.0), never, None, Checkpoint(path, "kl", "key"))
    smaller = Rounds(4, 8, agreement=1.1)
    values, _ = run_rounds(Synthetic(1.0), smaller, None, Checkpoint(path, "kl", "key"))
    expected, _ = run_rounds(Synthetic(1.0), smaller, None, None)
    assert all(np.array_equal(values[layer], expected[layer]) for layer in LAYERS)


def test_values_that_are_not_finite() -> None:
    measurement = Synthetic(1.0)
    measurement.values["c"][2] = np.nan
    with pytest.raises(UqfcError, match="sensitivity of c: the network's outputs are not finite"):
        run_rounds(measurement, Rounds(4, 64), None, None)


@pytest.mark.parametrize(("first", "most"), [(1, 8), (8, 4), (0, 0)])
def test_rounds_that_there_cannot_be(first: int, most: int) -> None:
    with pytest.raises(UqfcError, match="accepted: at least 2"):
        Rounds(first, most)


GOOD = {"format": "uqfc sensitivity 1", "method": "kl", "key": "key", "values": {"a": [1.5, 2]}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no checkpoint of a sensitivity"),
        (b"[" * 100_000, "no checkpoint of a sensitivity"),
        (b"[1]", "not a checkpoint of a sensitivity"),
        (json.dumps({**GOOD, "format": "other"}).encode(), "not a checkpoint of a sensitivity"),
        (json.dumps({**GOOD, "method": "mse"}).encode(), "of method 'mse', not 'kl'"),
        (json.dumps({**GOOD, "key": "another"}).encode(), "of another network, other samples"),
        (json.dumps({**GOOD, "values": [1]}).encode(), "values: accepted: an object"),
        (json.dumps({**GOOD, "values": {"a": "x"}}).encode(), "values of 'a'"),
        (json.dumps({**GOOD, "values": {"a": [[1]]}}).encode(), "a list of finite numbers"),
        (json.dumps({**GOOD, "values": {"a": [float("nan")]}}).encode(), "a list of finite"),
    ],
)
def test_files_that_are_no_checkpoint_of_this(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "checkpoint.json"
    path.write_bytes(content)
    with pytest.raises(UqfcError, match=message) as caught:
        Checkpoint(path, "kl", "key").load()
    assert str(path) in str(caught.value)
    assert path.read_bytes() == content


def test_a_checkpoint_that_cannot_be_read_or_written(tmp_path: Path) -> None:
    with pytest.raises(UqfcError, match="cannot be read"):
        Checkpoint(tmp_path, "kl", "key").load()
    with pytest.raises(UqfcError, match="cannot be written"):
        Checkpoint(tmp_path / "missing" / "c.json", "kl", "key").save({})
