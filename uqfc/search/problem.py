"""What is searched over, as something that can evaluate here, and be sent to where it shall."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from typing import Any

from uqfc.calibrated import Calibrated, calibrate_model
from uqfc.errors import TargetError
from uqfc.model import CompiledModel
from uqfc.search.evaluation import Configuration, Evaluate, Outcome, try_evaluate
from uqfc.targets import load_target, missing_cpu_features

KEPT = 6
"""Compiled models that a bench remembers: the uniform ones, and the last few candidates."""


@dataclass(frozen=True)
class SearchProblem:
    """Everything that an evaluation depends on; can be pickled if ``evaluate`` can.

    ``options``: of ``calibrate_model``, with the calibration data as plain arrays.
    """

    model: Any
    target: str
    options: Mapping[str, Any] = field(repr=False)
    evaluate: Evaluate = field(repr=False)

    def open(self) -> Callable[[Configuration], Outcome]:
        """Calibrate, which takes as long as it did at first."""
        return self.bench().evaluate_configuration

    def bench(self, progress: Callable[[str, int], None] | None = None) -> Bench:
        """Calibrate for the target, and where its code does not run on this machine, for this
        machine too: networks have the same bits on every target, so accuracy is measured there.

        Raises TargetError where this machine has not all types that the target has.
        """
        table = load_target(self.target)
        made = calibrate_model(
            self.model, target=self.target, progress=progress, **dict(self.options)
        )
        if not missing_cpu_features(table):
            return Bench(made, made, self.evaluate)
        here = calibrate_model(self.model, target="host", progress=progress, **dict(self.options))
        had = {layer.name: layer.choices for layer in here.layers}
        lacking = {d for layer in made.layers for d in layer.choices if d not in had[layer.name]}
        if lacking:
            raise TargetError(
                f"target {table.name} does not run here, and {here.target.name}, which does, lacks "
                f"{', '.join(sorted(lacking))}: accuracy cannot be measured"
            )
        return Bench(made, here, self.evaluate)


class Bench:
    """``network``: for the target. ``running``: the same, for a target that runs here."""

    def __init__(self, network: Calibrated, running: Calibrated, evaluate: Evaluate) -> None:
        self.network = network
        self.running = running
        self.evaluate = evaluate
        self.kept: OrderedDict[str, CompiledModel] = OrderedDict()
        self.lock = Lock()

    @property
    def runs_here(self) -> bool:
        """Whether the target's own code can be timed."""
        return self.network is self.running

    def compile(self, bit_widths: Configuration) -> CompiledModel:
        """A configuration for the machine that this is. One thread compiles at a time."""
        key = " ".join(bit_widths.values())
        with self.lock:
            if key not in self.kept:
                self.kept[key] = self.running.compile(bit_widths)
            self.kept.move_to_end(key)
            while len(self.kept) > KEPT:
                self.kept.popitem(last=False)
            return self.kept[key]

    def evaluate_configuration(self, configuration: Configuration) -> Outcome:
        """The outcome; its size is that on the target."""
        outcome = try_evaluate(self, configuration, self.evaluate)
        if self.runs_here or outcome.size is None:
            return outcome
        with self.lock:
            size = self.network.compile(configuration).info["weights_bytes"]
        return replace(outcome, size=int(size))


def portable(model: Any) -> Any:
    """A model's file by its content, so that it need not be where it is used."""
    if not isinstance(model, str | Path):
        return model
    try:
        return Path(model).read_bytes()
    except OSError:
        return model
