"""The surrogate's sums: from tables that are given, or measured."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from uqfc.errors import TargetError
from uqfc.latency import LatencyTable, measure_latencies
from uqfc.layer_facts import LayerFacts
from uqfc.measurements import cpu
from uqfc.search.costs import CostModel
from uqfc.search.evaluation import measure_latency
from uqfc.search.journal import Journal
from uqfc.search.loop import Progress
from uqfc.search.problem import Bench
from uqfc.search.sensitivity import SensitivityTable, measure_sensitivity
from uqfc.search.size import constants_by_layer, size_model
from uqfc.search.space import SearchSpace


class Latencies(Protocol):
    """``uqfc.latency.LatencyTable``, or what is like it."""

    @property
    def fixed(self) -> float:
        """Microseconds of a call that no layer has."""
        ...

    def microseconds(self, layer: LayerFacts, dtype: str) -> float:
        """What the layer takes with weights of this type."""
        ...


class Sensitivities(Protocol):
    """``uqfc.search.sensitivity.SensitivityTable``, or what is like it."""

    @property
    def loss(self) -> Mapping[tuple[str, str], float]:
        """By layer and type: the predicted increase of the loss."""
        ...


@dataclass(frozen=True)
class CostsOf:
    """Makes the surrogate's sums, or takes those that were given. What was measured goes into the
    journal, since a search that goes on from there must see the same figures."""

    bench: Bench
    space: SearchSpace
    journal: Journal
    progress: Progress | None

    def loss(
        self,
        given: Sensitivities | None,
        interactions: Mapping[tuple[str, str, str, str], float] | None,
        samples: Iterable[Mapping[str, Any]],
        seed: int,
    ) -> CostModel:
        """Predicted loss: measured as the divergence of the outputs, if no table is given."""
        given = self.sensitivity(samples, seed) if given is None else given
        return CostModel.of(self.space, given.loss, interactions)

    def sensitivity(self, samples: Iterable[Mapping[str, Any]], seed: int) -> SensitivityTable:
        """Nats by layer and type."""
        key = f"sensitivity {seed} {json.dumps(self.space.choices)}"
        record = self.journal.find(key)
        if record is not None:
            return SensitivityTable.from_document(record.get("table"), "journal: sensitivity")
        report = self.progress
        table = measure_sensitivity(
            self.bench.running,
            samples,
            choices=dict(zip(self.space.layers, self.space.choices, strict=True)),
            progress=None if report is None else lambda s, done, _: report(s, done),
            seed=seed,
        )
        self.journal.add(key, {"table": table.document()})
        return table

    def size(self) -> CostModel:
        """Bytes, by compiling each type once wherever it may be."""
        uniform: dict[str, Any] = {}
        for done, dtype in enumerate(self.space.dtypes):
            configuration = self.space.configuration(self.space.uniform(dtype))
            if self.bench.runs_here:
                compiled = self.bench.compile(configuration)
            else:
                compiled = self.bench.network.compile(configuration)
            uniform[dtype] = constants_by_layer(compiled)
            if self.progress is not None:
                self.progress("measure sizes", done + 1)
        return size_model(self.space, uniform)

    def latency(self, given: Latencies | None) -> CostModel:
        """Milliseconds of the layers, measured on this machine if no table is given.

        TargetError where the target's code does not run here and there is no table.
        """
        network = self.bench.network
        given = self.latencies() if given is None else given
        facts = {layer.name: layer for layer in network.layers}
        terms = {
            (layer, dtype): given.microseconds(facts[layer], dtype) / 1e3
            for layer, choices in zip(self.space.layers, self.space.choices, strict=True)
            for dtype in choices
        }
        return CostModel.of(self.space, terms, constant=given.fixed / 1e3)

    def latencies(self) -> LatencyTable:
        """Measured on this machine, or on one with the same processor before."""
        network = self.bench.network
        if not self.bench.runs_here:
            raise TargetError(
                f"target {network.target.name} does not run here: its latencies cannot be "
                "measured; give `latencies`, a table that `uqfc profile-target` wrote there"
            )
        key = f"latency table {cpu()} {' '.join(self.space.dtypes)}"
        record = self.journal.find(key)
        if record is not None:
            return LatencyTable.from_document(record.get("table"), "journal: latencies")
        table = measure_latencies(network, self.space.dtypes, self.progress)
        self.journal.add(key, {"table": table.model_dump(mode="json")})
        return table


def latency_function(
    bench: Bench, space: SearchSpace, predicted: CostModel | None
) -> Callable[[Mapping[str, str]], float]:
    """Measures here; of a target that does not run here, adds up its table."""
    if bench.runs_here or predicted is None:
        return lambda configuration: measure_latency(bench.compile(configuration))
    return lambda configuration: predicted.one(space.row(configuration))
