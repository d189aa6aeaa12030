"""Weights that jump to and fro between two levels: finding, damping and freezing them.

M. Nagel et al., "Overcoming Oscillations in Quantization-Aware Training" (ICML 2022,
arXiv:2203.11086). A latent weight near the middle of two levels is pulled across it in either
direction step after step; the statistics of batch normalization and the loss never settle.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from uqfc.errors import UqfcError
from uqfc.qat.estimators import broadcast_parameters


class OscillationTracker(nn.Module):
    """How often each integer of a weight turns back, and which are frozen: section 3.2 and 4.3.

    Made from the integers ``q`` at the start, of any integer dtype; ``update`` sees them once per
    step. An oscillation is a change of a level in the direction opposite to its last change.
    ``frequency`` (float32) is its moving average with weight ``momentum`` for the newest, and
    ``average`` that of the integers. Where the frequency exceeds ``threshold`` (None: never) the
    integer is frozen, for good, at its rounded average. The threshold may be lowered in training.

    All of it is in buffers of the shape of the weight: the state dict resumes it. The ``threshold``
    and ``momentum`` are not.
    """

    previous: Tensor
    direction: Tensor
    frequency: Tensor
    average: Tensor
    frozen: Tensor
    level: Tensor

    def __init__(
        self, q: Tensor, *, momentum: float = 0.01, threshold: float | None = None
    ) -> None:
        super().__init__()
        if not 0 < momentum < 1:
            raise UqfcError(f"oscillation: momentum is {momentum}; accepted: above 0, below 1")
        self.momentum, self.threshold = momentum, threshold
        integers = q.detach().to(torch.int16)
        for name, value in {
            "previous": integers.clone(),
            "direction": torch.zeros_like(integers, dtype=torch.int8),
            "frequency": torch.zeros_like(integers, dtype=torch.float32),
            "average": integers.float(),
            "frozen": torch.zeros_like(integers, dtype=torch.bool),
            "level": integers.clone(),
        }.items():
            self.register_buffer(name, value)

    @torch.no_grad()
    def update(self, q: Tensor) -> None:
        """Take in the integers of a step."""
        integers = q.to(torch.int16)
        step = torch.sub(integers, self.previous).sign_().to(torch.int8)
        turned = step * self.direction == -1
        self.direction.copy_(torch.where(step == 0, self.direction, step))
        self.previous.copy_(integers)
        self.frequency.lerp_(turned.float(), self.momentum)
        self.average.lerp_(integers.float(), self.momentum)
        if self.threshold is None:
            return
        newly = (self.frequency > self.threshold).logical_and_(~self.frozen)
        self.level.copy_(torch.where(newly, self.average.round().to(torch.int16), self.level))
        self.frozen.logical_or_(newly)

    @torch.no_grad()
    def hold(
        self, weight: Tensor, scale: Tensor, zero_point: Tensor, axis: int | None = None
    ) -> None:
        """Set frozen weights, in place, to the real values of their levels.

        After each step of the optimizer: whatever it, its momentum, or a learned scale did, they
        are quantized to their levels again. Parameters are as for ``quantize``.
        """
        step, zero = broadcast_parameters(weight, scale, zero_point, axis)
        weight.copy_(torch.where(self.frozen, (self.level - zero) * step, weight))

    def oscillating(self, frequency: float = 0.005) -> float:
        """The share of weights, not frozen, that turn back more often than ``frequency``."""
        turning = (self.frequency > frequency).logical_and_(~self.frozen)
        return turning.float().mean().item() if turning.numel() else 0.0


def dampening_loss(
    weight: Tensor,
    w_hat: Tensor,
    scale: Tensor,
    zero_point: Tensor,
    qmin: int,
    qmax: int,
    *,
    axis: int | None = None,
) -> Tensor:
    """``sum((w_hat - clip(weight))²)``, which pulls weights to the middle of their bins: eq. 6.

    The weight is clipped to the real values of ``qmin`` and ``qmax``. The gradient is the weight's
    alone; ``w_hat`` and the scale count as constants.
    """
    step, zero = broadcast_parameters(weight, scale.detach(), zero_point, axis)
    clipped = torch.minimum(torch.maximum(weight, (qmin - zero) * step), (qmax - zero) * step)
    return torch.sum((w_hat.detach() - clipped) ** 2)
