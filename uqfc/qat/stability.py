"""Oscillating weights of a model in training: how many there are, damped or frozen.

See ``uqfc.qat.oscillation``. The integers are those of the folded weights that are deployed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from uqfc.errors import UqfcError
from uqfc.qat.layers import FOLDABLE, Folded, LayerModules, QuantizedWeight, quantized_weight
from uqfc.qat.model import QatModel
from uqfc.qat.oscillation import OscillationTracker, dampening_loss
from uqfc.qat.plan import PlannedLayer

KINDS = ("track", "dampen", "freeze")

STRENGTH = 1e-3
"""Of the dampening loss at the end of training; it grows from 0 along a cosine, as in section 4.2
of the paper, so that weights can move first."""

THRESHOLDS = 0.04, 0.01
"""Of the frequency above which a weight is frozen, at the start and at the end of training: it
falls along a cosine, as in section 4.3 of the paper."""

Present = tuple[PlannedLayer, OscillationTracker, Folded, QuantizedWeight]


class Oscillations:
    """Trackers of all quantized layers of a model that is captured and calibrated.

    ``kind``: "track" only counts, "dampen" has a penalty, "freeze" holds integers for good. A
    weight that several layers share is tracked as the first of them has it.
    """

    def __init__(self, model: QatModel, kind: str, steps: int) -> None:
        if kind not in KINDS:
            raise UqfcError(f"oscillation: {kind!r}; accepted: {', '.join(KINDS)}, None")
        self.model, self.kind, self.steps = model, kind, steps
        layers: dict[str, PlannedLayer] = {}
        for layer in model.plan.layers.values():
            layers.setdefault(layer.origin.weight, layer)
        self.layers = list(layers.values())
        made = [OscillationTracker(found.q) for _, found in map(self.quantized, self.layers)]
        self.trackers = nn.ModuleList(made)

    def quantized(self, layer: PlannedLayer) -> tuple[Folded, QuantizedWeight]:
        """A layer's folded weight, with a gradient to the parameter, and its integers."""
        model, state = self.model, self.model.quantization
        folded = LayerModules(model.model, layer.origin).folded(learned=False)
        with torch.no_grad():
            scales = state.scales()
            x_scale = scales.activations[model.plan.point_of(layer).index]
            zero_points, estimator = state.weight_zero_point, model.options.estimator
            found = quantized_weight(layer, folded, scales.weights, zero_points, x_scale, estimator)
        return folded, found

    def present(self) -> Iterator[Present]:
        """Every layer as it is now."""
        for layer, tracker in zip(self.layers, self.trackers, strict=True):
            assert isinstance(tracker, OscillationTracker)
            yield layer, tracker, *self.quantized(layer)

    def progress(self, step: int) -> float:
        """From 0 to 1 along a cosine."""
        return 0.5 * (1.0 - math.cos(math.pi * min(1.0, step / self.steps)))

    def penalty(self, step: int) -> Tensor | float:
        """What is added to the loss of a step."""
        if self.kind != "dampen":
            return 0.0
        terms = [
            dampening_loss(
                folded.weight,
                found.real,
                found.scale,
                found.zero_point,
                layer.kind.qmin,
                layer.kind.qmax,
                axis=0,
            )
            for layer, _, folded, found in self.present()
        ]
        return STRENGTH * self.progress(step) * torch.stack(terms).sum()

    @torch.no_grad()
    def update(self, step: int) -> None:
        """After a step of the optimizer."""
        first, last = THRESHOLDS
        for layer, tracker, folded, found in self.present():
            if self.kind == "freeze":
                tracker.threshold = first + (last - first) * self.progress(step)
            tracker.update(found.q)
            self.hold_layer(layer, tracker, folded, found)

    @torch.no_grad()
    def hold(self) -> None:
        """Set frozen weights so that they have their integers: also after statistics changed."""
        for present in self.present():
            self.hold_layer(*present)

    def hold_layer(
        self,
        layer: PlannedLayer,
        tracker: OscillationTracker,
        folded: Folded,
        found: QuantizedWeight,
    ) -> None:
        if not bool(tracker.frozen.any()):
            return
        held, frozen = folded.weight.clone(), tracker.frozen
        tracker.hold(held, found.scale, found.zero_point, 0)
        if folded.factor is not None:
            factor = folded.factor.reshape(-1, *[1] * (held.ndim - 1))
            usable = factor.abs() >= FOLDABLE
            frozen = frozen & usable
            held = (held.double() / torch.where(usable, factor, 1.0)).float()
        parameter = self.model.model.get_parameter(layer.origin.weight)
        new = in_torch_order(torch.where(frozen, held, 0.0), parameter)
        parameter.copy_(torch.where(in_torch_order(frozen, parameter), new, parameter))

    def share(self) -> float:
        """Of all weights, those that oscillate and are not frozen."""
        each = [tracker for _, tracker, _, _ in self.present()]
        turning = sum(tracker.oscillating() * tracker.previous.numel() for tracker in each)
        return turning / max(1, sum(tracker.previous.numel() for tracker in each))


def in_torch_order(tensor: Tensor, like: Tensor) -> Tensor:
    """The inverse of ``layers.in_ir_order``."""
    if like.ndim == 2:
        return tensor
    moved = tensor.permute(0, 3, 1, 2)
    return moved.squeeze(2) if like.ndim == 3 else moved
