"""What methods share: those that give a value for each sample, and those for each probe."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from uqfc.numerics import F32, F64
from uqfc.search.sensitivity.adaptive import Step
from uqfc.search.sensitivity.samples import Setting
from uqfc.search.sensitivity.table import Item


def item_name(layer: str, dtype: str) -> str:
    """In checkpoints and messages."""
    return f"layer '{layer}' with {dtype} weights"


@dataclass(frozen=True)
class PerSample(ABC):
    """A value for each layer, type and sample; see ``adaptive.Measurement``."""

    setting: Setting

    @property
    def available(self) -> int:
        return len(self.setting.samples)

    @property
    def scale(self) -> Mapping[Item, tuple[str, float]]:
        return {item: (item_name(*item), 1.0) for item in self.setting.items}

    def steps(self, counts: Mapping[str, int], size: int) -> Sequence[Step]:
        return [
            partial(self.measure, item, counts[name], size)
            for item, (name, _) in self.scale.items()
            if counts[name] < size
        ]

    @abstractmethod
    def measure(self, item: Item, start: int, stop: int) -> dict[str, F64]:
        """The values of samples ``start`` to ``stop``."""


@dataclass(frozen=True)
class PerProbe(ABC):
    """A value for each layer and probe, whose mean is a trace; ``probes``: how many there may be.

    Entries are those of HAWQ-V2: ½ ‖δ‖² / n times the trace.
    """

    setting: Setting
    probes: int

    @property
    def available(self) -> int:
        return self.probes

    @property
    def scale(self) -> Mapping[Item, tuple[str, float]]:
        found: dict[Item, tuple[str, float]] = {}
        for item, parameters in self.setting.quantized_parameters.items():
            layer, _ = item
            size = self.setting.floating.parameters[layer].weight.size
            change = squared_change(self.setting, item, parameters.weight)
            found[item] = layer, 0.5 * change / size
        return found

    def steps(self, counts: Mapping[str, int], size: int) -> Sequence[Step]:
        return [
            partial(self.measure, layer, counts[layer], size)
            for layer in self.setting.choices
            if counts.get(layer, size) < size
        ]

    def signs(self, layer: str, probe: int, size: int) -> F32:
        """The vector of a probe [size]."""
        number = list(self.setting.choices).index(layer)
        return rademacher(size, self.setting.seed, number, probe)

    @abstractmethod
    def measure(self, layer: str, start: int, stop: int) -> dict[str, F64]:
        """The values of probes ``start`` to ``stop``."""


def rademacher(size: int, *seed: int) -> F32:
    """Independent signs [size], +1 or −1."""
    return (2 * np.random.default_rng(seed).integers(0, 2, size) - 1).astype(np.float32)


def squared_change(setting: Setting, item: Item, weight: F32) -> float:
    """‖δ‖² of the weights."""
    change = weight.astype(np.float64) - setting.floating.parameters[item[0]].weight
    return float(np.square(change).sum())
