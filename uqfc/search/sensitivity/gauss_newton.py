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

from dataclasses import dataclass, field

import numpy as np

from uqfc.numerics import F32, F64
from uqfc.search.sensitivity.divergence import kl_divergence
from uqfc.search.sensitivity.samples import Setting
from uqfc.search.sensitivity.table import Item
from uqfc.search.sensitivity.units import PerProbe, PerSample, item_name

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
class GaussNewton(PerSample):
    """½ δᵀFδ of each sample."""

    steps_taken: dict[Item, float] = field(default_factory=dict[Item, float])

    def measure(self, item: Item, start: int, stop: int) -> dict[str, F64]:
        layer, _ = item
        original = self.setting.floating.parameters[layer].flat
        change = self.setting.quantized_parameters[item].flat - original
        if item not in self.steps_taken:
            self.steps_taken[item] = step_size(self.setting, layer, change)
        epsilon = self.steps_taken[item]
        found = divergence(self.setting, layer, np.float32(epsilon) * change, start, stop)
        return {item_name(*item): found / epsilon**2}


@dataclass(frozen=True)
class FisherTrace(PerProbe):
    """zᵀFz of each probe z, the mean over all samples."""

    steps_taken: dict[str, float] = field(default_factory=dict[str, float])

    def measure(self, layer: str, start: int, stop: int) -> dict[str, F64]:
        own = self.setting.floating.parameters[layer]
        found: list[float] = []
        for probe in range(start, stop):
            signs = self.signs(layer, probe, own.weight.size)
            direction = np.concatenate([signs, np.zeros_like(own.bias)])
            if layer not in self.steps_taken:
                self.steps_taken[layer] = step_size(self.setting, layer, direction)
            epsilon = self.steps_taken[layer]
            count = len(self.setting.samples)
            change = np.float32(epsilon) * direction
            kl = divergence(self.setting, layer, change, 0, count).mean()
            found.append(2 * float(kl) / epsilon**2)
        return {layer: np.array(found)}
