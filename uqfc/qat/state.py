"""The parameters of the quantization itself: scales that are learned, zero points that are not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from uqfc.calibration import Observer, activation_parameters
from uqfc.qat.plan import Plan, PlannedLayer
from uqfc.qat.points import Point
from uqfc.qat.scales import log2_of, scale_of

KINDS = ("activation", "weight")
BUFFERS = {"initial": torch.float32, "zero_point": torch.int32}


class Scales(NamedTuple):
    """Scales of one forward pass: float32, of the points and of all weights' channels."""

    activations: Tensor
    weights: Tensor


class Quantization(nn.Module):
    """Scales ``2 ** (initial + change)`` and zero points of all points, and of all weights.

    The changes are the parameters, one for activations and one for weights: they have a place, and
    optimizers take them, before it is known how many scales there are. See ``scales.LearnedScale``
    for why changes and not scales are learned.
    """

    activation_change: nn.Parameter
    activation_initial: Tensor
    activation_zero_point: Tensor
    weight_change: nn.Parameter
    weight_initial: Tensor
    weight_zero_point: Tensor

    def __init__(self, learned: bool = False) -> None:
        super().__init__()
        for kind in KINDS:
            # torch's stubs know neither the argument nor that it is a Parameter.
            make: Any = UninitializedParameter
            change = make(learned, dtype=torch.float32)
            self.register_parameter(f"{kind}_change", change)
            for name in BUFFERS:
                self.register_buffer(f"{kind}_{name}", None)

    @property
    def is_materialized(self) -> bool:
        return not isinstance(self.weight_change, UninitializedParameter)

    def materialize(self, plan: Plan) -> None:
        """Make room for the points and layers of a plan."""
        for kind, count in zip(KINDS, (len(plan.points), plan.scales), strict=True):
            change = self._parameters[f"{kind}_change"]
            assert isinstance(change, UninitializedParameter)
            change.materialize((count,))
            with torch.no_grad():
                change.zero_()
            for name, dtype in BUFFERS.items():
                zeros = torch.zeros(count, dtype=dtype, device=change.device)
                setattr(self, f"{kind}_{name}", zeros)

    def scales(self) -> Scales:
        """The scales, with gradients to the changes."""
        return Scales(
            scale_of(self.activation_initial + self.activation_change, balanced=True),
            scale_of(self.weight_initial + self.weight_change, balanced=True),
        )

    @torch.no_grad()
    def set_points(self, plan: Plan, observers: Mapping[str, Observer]) -> None:
        """Take the calibrated parameters of every point. CalibrationError if one saw nothing."""
        self.activation_change.zero_()
        for point in plan.points.values():
            low, high = observers[point.name].range(point.name)
            found = activation_parameters(
                low, high, point.qmin, point.qmax, symmetric=point.symmetric
            )
            self.activation_initial[point.index] = log2_of(found.scale)
            self.activation_zero_point[point.index] = found.zero_point

    @torch.no_grad()
    def set_weights(self, layer: PlannedLayer, scale: Tensor, zero_point: Tensor) -> None:
        """Take the parameters of a layer's weights, [O] or [1]."""
        part = slice(layer.start, layer.start + layer.count)
        self.weight_change[part] = 0.0
        self.weight_initial[part] = log2_of(scale).reshape(-1).to(self.weight_initial.device)
        self.weight_zero_point[part] = zero_point.reshape(-1).to(self.weight_zero_point.device)

    def zero_point_of(self, point: Point) -> int:
        return int(self.activation_zero_point[point.index])

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        if self.is_materialized:
            super()._save_to_state_dict(destination, prefix, keep_vars)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        if self.is_materialized or any(key.startswith(prefix) for key in state_dict):
            super()._load_from_state_dict(state_dict, prefix, *rest)
