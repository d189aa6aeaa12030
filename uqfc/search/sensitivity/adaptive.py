"""Measures in rounds, each with twice as many samples or probes, until the ranking is stable."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np

from uqfc.errors import UqfcError
from uqfc.numerics import F64
from uqfc.search.sensitivity.checkpoint import Checkpoint
from uqfc.search.sensitivity.estimates import kendall
from uqfc.search.sensitivity.table import Item

Progress = Callable[[str, int, int], None]
"""Called with a stage's name, how many steps of it are done, and how many there are."""

Step: TypeAlias = Callable[[], Mapping[str, F64]]
"""Measures some items: their next values."""


@dataclass(frozen=True)
class Rounds:
    """``first`` units (samples or probes), then twice as many, and so on, at most ``most``.

    A ranking is stable when, for every weight type, Kendall's τ between the layers' ranking by the
    units with even numbers and that by those with odd numbers is ``agreement`` or more. The ranking
    by all units, which is the result, varies less than either.
    """

    first: int = 32
    most: int = 128
    agreement: float = 0.9

    def __post_init__(self) -> None:
        if not 2 <= self.first <= self.most:
            raise UqfcError(
                f"sensitivity: rounds of {self.first} to {self.most} samples or probes; accepted: "
                "at least 2, and no more in the first round than in all"
            )

    def sizes(self, available: int) -> Iterator[int]:
        """How many units have been measured after each round."""
        most = min(self.most, available)
        size = min(self.first, most)
        yield size
        while size < most:
            size = min(2 * size, most)
            yield size


class Measurement(Protocol):
    """What a method measures: for every item, a value of each unit (sample or probe).

    ``scale`` says what the table has: for a layer and a type, an item and a factor. The entry is
    the factor times the mean of the item's values. ``available``: units that there are.
    """

    @property
    def scale(self) -> Mapping[Item, tuple[str, float]]: ...

    @property
    def available(self) -> int: ...

    def steps(self, counts: Mapping[str, int], size: int) -> Sequence[Step]:
        """What is to be done so that every item has ``size`` values; ``counts`` is what it has."""
        ...


def run_rounds(
    measurement: Measurement,
    rounds: Rounds,
    progress: Progress | None,
    checkpoint: Checkpoint | None,
) -> tuple[dict[str, F64], float]:
    """The values of every item, and the halves' agreement; saved after every step.

    UqfcError for a value that is not finite.
    """
    found = {} if checkpoint is None else checkpoint.load()
    values: dict[str, F64] = {}
    agreement = 0.0
    for size in rounds.sizes(measurement.available):
        items = dict.fromkeys(item for item, _ in measurement.scale.values())
        counts = {item: len(found.get(item, ())) for item in items}
        steps = measurement.steps(counts, size)
        for done, step in enumerate(steps, 1):
            for item, new in step().items():
                if not np.isfinite(new).all():
                    raise UqfcError(f"sensitivity of {item}: the network's outputs are not finite")
                found[item] = np.concatenate([found.get(item, np.zeros(0)), new])
            if checkpoint is not None:
                checkpoint.save(found)
            if progress is not None:
                progress(f"sensitivity, {size} samples or probes", done, len(steps))
        # The checkpoint of a run with larger rounds holds more than counts in this one.
        values = {item: found[item][:size] for item in items}
        agreement = lowest_agreement(values, measurement.scale)
        if agreement >= rounds.agreement:
            break
    return values, agreement


def lowest_agreement(values: Mapping[str, F64], scale: Mapping[Item, tuple[str, float]]) -> float:
    """The lowest, over the weight types, Kendall's τ between the halves' rankings of layers."""
    halves: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for (_, dtype), (item, factor) in scale.items():
        units = values[item]
        halves[dtype].append((factor * units[0::2].mean(), factor * units[1::2].mean()))
    taus = [kendall(*np.array(pairs).T) for pairs in halves.values() if len(pairs) > 1]
    return min(taus, default=1.0)
