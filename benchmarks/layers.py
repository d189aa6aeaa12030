"""Times of single layers: what a model of several takes more than a model of one.

A call costs microseconds before its first layer and after its last, and quantized runtimes convert
inputs and outputs. For a layer that takes little time itself, both are removed by measuring models
of one layer and of several, in turns, and taking the difference. Layers that take long or read much
are measured alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from benchmarks.candidates import Call, Candidate, ready
from benchmarks.measuring import Measured, Plan, take_turns
from benchmarks.report import Result, Row
from uqfc.timing import Latency

EXTRA = 4
"""Layers that the larger model has more."""
LONG = 20_000_000
"""Multiply-accumulates from which a layer is measured alone."""
SHORTEST = 1e-6
"""Milliseconds: what a difference is raised to, should noise exceed the time of a layer."""

LARGE = 4 << 20
"""Bytes of weights from which a layer is measured alone: a cache that holds them may not hold more.

A difference would be that of two caches.
"""

LayerFactory = Callable[[int], Call]
"""From the number of equal layers in the model."""


@dataclass(frozen=True)
class LayerWorkload:
    """One layer and its candidates; ``bytes_read`` as in ``Result``."""

    name: str
    macs: int
    candidates: Mapping[str, LayerFactory]
    bytes_read: int = 0

    @property
    def copies(self) -> tuple[int, ...]:
        """Layers in the models that are measured."""
        alone = self.macs >= LONG or self.bytes_read >= LARGE
        return (1,) if alone else (1, 1 + EXTRA)


def prepare(layer: LayerWorkload) -> dict[str, str]:
    """Fill the cache; for each candidate why it cannot take part, or nothing."""
    return {name: reason for name, (_, reason) in load(layer).items()}


def load(layer: LayerWorkload) -> dict[str, tuple[list[Candidate], str]]:
    """Each candidate's models, and why it cannot take part, or nothing."""
    found: dict[str, tuple[list[Candidate], str]] = {}
    for name, factory in layer.candidates.items():
        models = [ready(label(name, n), partial(factory, n)) for n in layer.copies]
        found[name] = models, next((m.reason for m in models if m.reason), "")
    return found


def measure(layer: LayerWorkload, plan: Plan) -> Result:
    """The layer's row for each candidate."""
    loaded = load(layer)
    found = [model for models, _ in loaded.values() for model in models]
    reasons = {name: reason for name, (_, reason) in loaded.items()}
    measured = take_turns(found, plan)
    rows = [Row(n, per_layer(layer, n, measured), r) for n, r in reasons.items()]
    return Result(layer.name, layer.macs, tuple(rows), layer.bytes_read)


def label(name: str, copies: int) -> str:
    return f"{name} ({copies})"


def per_layer(layer: LayerWorkload, name: str, measured: Mapping[str, Measured]) -> Latency | None:
    """Of one layer, from the models of that candidate; None if one is missing."""
    match [measured.get(label(name, copies)) for copies in layer.copies]:
        case [Measured() as only]:
            return only.latency
        case [Measured() as one, Measured() as several]:
            return difference(one.latency, several.latency, EXTRA)
        case _:
            return None


def difference(one: Latency, several: Latency, extra: int) -> Latency:
    """What each of the ``extra`` layers took."""
    return Latency(
        min(one.runs, several.runs),
        max(SHORTEST, (several.minimum - one.minimum) / extra),
        max(SHORTEST, (several.median - one.median) / extra),
        max(SHORTEST, (several.p90 - one.p90) / extra),
    )
