"""``gauss_newton`` and ``fisher_trace``: second order, from the float network, by differences.

For a step ``ε δ`` of a layer's weights ``w``, with ``F`` the Fisher information matrix of the
network's own softmax (which is the Gauss-Newton matrix of the cross-entropy; J. Martens, "New
insights and perspectives on the natural gradient method", JMLR 21, 2020, sections 8 and 9.2),

    KL(f(w) ‖ f(w + ε δ)) / ε²  →  ½ δᵀ F δ        (ε → 0)

``gauss_newton`` takes for δ the actual change of (layer, type), bias correction included: its entry
is ½ δᵀFδ, in nats, the mean over samples. ``fisher_trace`` takes Rademacher probes, whose mean is
the trace (M. F. Hutchinson, Comm. Stat. Sim. 19, 1990), and its entry is that of HAWQ-V2 (Z. Dong
et al., NeurIPS 2020) with F for the Hessian: ½ (tr F / n) ‖δ‖² for n weights.

ε is the largest power of 2, at most 1, with which the divergence of the first samples is small.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from uqfc.numerics import F32, F64
from uqfc.search.sensitivity.adaptive import Step
from uqfc.search.sensitivity.divergence import kl_divergence
from uqfc.search.sensitivity.outputs import item_name
from uqfc.search.sensitivity.samples import Setting
from uqfc.search.sensitivity.table import Item

SMALL = 1e-3
"""Nats: below it the divergence is quadratic in ε to a few percent, and far above float32's noise
(relative errors of 1e-6 in logits, squared)."""
MOST_HALVINGS = 24
FIRST_SAMPLES = 8
"""With which ε is chosen."""


def divergence(setting: Setting, layer: str, change: F32, start: int, stop: int) -> F64:
    """KL from the float network to the one with changed parameters, [stop - start]."""
    parameters = setting.floating.parameters[layer].flat + change
    outputs = setting.floating.run(setting.samples[start:stop], {layer: parameters})
    return kl_divergence([y[start:stop] for y in setting.float_outputs], outputs)


def step_size(setting: Setting, layer: str, direction: F32) -> float:
    """ε for a direction; see the module's documentation."""
    count = min(FIRST_SAMPLES, len(setting.samples))
    for halvings in range(MOST_HALVINGS):
        epsilon = 2.0**-halvings
        found = divergence(setting, layer, np.float32(epsilon) * direction, 0, count).mean()
        if found <= SMALL:  # not so if it is NaN
            return epsilon
    return 2.0**-MOST_HALVINGS


@dataclass(frozen=True)
class GaussNewton:
    """½ δᵀFδ of each sample."""

    setting: Setting
    steps_taken: dict[Item, float] = field(default_factory=dict[Item, float])

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

    def measure(self, item: Item, start: int, stop: int) -> dict[str, F64]:
        """The values of samples ``start`` to ``stop``."""
        layer, _ = item
        original = self.setting.floating.parameters[layer].flat
        change = self.setting.quantized_parameters[item].flat - original
        if item not in self.steps_taken:
            self.steps_taken[item] = step_size(self.setting, layer, change)
        epsilon = self.steps_taken[item]
        found = divergence(self.setting, layer, np.float32(epsilon) * change, start, stop)
        return {item_name(*item): found / epsilon**2}


@dataclass(frozen=True)
class FisherTrace:
    """zᵀFz of each probe z, the mean over all samples; ``probes``: how many there may be."""

    setting: Setting
    probes: int
    steps_taken: dict[str, float] = field(default_factory=dict[str, float])

    @property
    def available(self) -> int:
        return self.probes

    @property
    def scale(self) -> Mapping[Item, tuple[str, float]]:
        return trace_scale(self.setting)

    def steps(self, counts: Mapping[str, int], size: int) -> Sequence[Step]:
        return [
            partial(self.measure, layer, counts[layer], size)
            for layer in self.setting.choices
            if counts.get(layer, size) < size
        ]

    def measure(self, layer: str, start: int, stop: int) -> dict[str, F64]:
        """The values of probes ``start`` to ``stop``."""
        number = list(self.setting.choices).index(layer)
        own = self.setting.floating.parameters[layer]
        found: list[float] = []
        for probe in range(start, stop):
            signs = rademacher(own.weight.size, self.setting.seed, number, probe)
            direction = np.concatenate([signs, np.zeros_like(own.bias)])
            if layer not in self.steps_taken:
                self.steps_taken[layer] = step_size(self.setting, layer, direction)
            epsilon = self.steps_taken[layer]
            count = len(self.setting.samples)
            change = np.float32(epsilon) * direction
            kl = divergence(self.setting, layer, change, 0, count).mean()
            found.append(2 * float(kl) / epsilon**2)
        return {layer: np.array(found)}


def rademacher(size: int, *seed: int) -> F32:
    """Independent signs [size], +1 or −1."""
    return (2 * np.random.default_rng(seed).integers(0, 2, size) - 1).astype(np.float32)


def trace_scale(setting: Setting) -> dict[Item, tuple[str, float]]:
    """Of HAWQ-V2: an entry is ½ ‖δ‖² / n times the trace, whose item is the layer."""
    found: dict[Item, tuple[str, float]] = {}
    for item, parameters in setting.quantized_parameters.items():
        layer, _ = item
        size = setting.floating.parameters[layer].weight.size
        found[item] = layer, 0.5 * squared_change(setting, item, parameters.weight) / size
    return found


def squared_change(setting: Setting, item: Item, weight: F32) -> float:
    """‖δ‖² of the weights."""
    change = weight.astype(np.float64) - setting.floating.parameters[item[0]].weight
    return float(np.square(change).sum())
