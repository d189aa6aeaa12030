"""What training makes small, and what says how good a network is."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from uqfc.errors import UqfcError
from uqfc.qat.loading import Batch

Outputs = Tensor | tuple[Tensor, ...]
Loss = Callable[[Any, Any], Tensor]
"""Of outputs and targets, the mean over the batch: a scalar to differentiate."""
Metric = Callable[[Any, Any], Tensor | float]
"""Of outputs and targets, the mean over the batch; higher is better."""


def cross_entropy(outputs: Outputs, targets: Any) -> Tensor:
    """Of logits [N, C, …] and classes [N, …], or probabilities like the logits."""
    logits = single(outputs, "loss")
    if are_classes(logits, targets):
        return functional.cross_entropy(logits, targets.long())
    soft = isinstance(targets, Tensor) and targets.is_floating_point()
    if not soft or targets.shape != logits.shape or logits.ndim < 2:
        shape = tuple(targets.shape) if isinstance(targets, Tensor) else type(targets).__name__
        raise UqfcError(
            f"loss: cross-entropy takes classes for logits of shape {tuple(logits.shape)}, got "
            f"targets {shape}; give finetune another loss"
        )
    return functional.cross_entropy(logits, targets)


def top1(outputs: Outputs, targets: Any) -> Tensor:
    """The share of the largest logits that are at the target; targets as for cross-entropy."""
    logits = single(outputs, "metric")
    classes = targets.argmax(1) if targets.is_floating_point() else targets
    return (logits.argmax(1) == classes).float().mean()


def are_classes(outputs: Outputs, targets: Any) -> bool:
    """Whether targets are whole numbers [N, …], for logits [N, C, …]."""
    return (
        isinstance(outputs, Tensor)
        and isinstance(targets, Tensor)
        and outputs.ndim > 1
        and targets.shape == (len(outputs), *outputs.shape[2:])
        and not targets.is_floating_point()
    )


def single(outputs: Outputs, what: str) -> Tensor:
    if isinstance(outputs, Tensor):
        return outputs
    raise UqfcError(f"{what}: the network has {len(outputs)} outputs; give finetune a {what}")


@dataclass(frozen=True)
class Objective:
    """The loss, mixed with the distance to a teacher's logits.

    ``(1 - weight) · loss + weight · T² · KL(teacher / T ‖ student / T)``, T the ``temperature``:
    G. Hinton et al., "Distilling the Knowledge in a Neural Network" (arXiv:1503.02531).
    """

    loss: Loss
    teacher: nn.Module | None
    weight: float
    temperature: float

    def __call__(self, outputs: Outputs, batch: Batch) -> Tensor:
        loss = self.loss(outputs, batch.targets)
        if self.teacher is None:
            return loss
        with torch.no_grad():
            wanted = self.teacher(*batch.inputs)
        student, teacher = single(outputs, "teacher"), single(wanted, "teacher")
        if student.shape != teacher.shape:
            shapes = f"{tuple(teacher.shape)} for {tuple(student.shape)}"
            raise UqfcError(f"teacher: gives outputs of shape {shapes}")
        distance = functional.kl_div(
            torch.log_softmax(student / self.temperature, 1),
            torch.log_softmax(teacher / self.temperature, 1),
            reduction="batchmean",
            log_target=True,
        )
        scaled = self.weight * self.temperature**2 * distance
        return (1 - self.weight) * loss + scaled


def teacher_of(model: nn.Module, teacher: Any) -> nn.Module | None:
    """The float model as it is now, or the module that was given, to be evaluated only."""
    if teacher is False or teacher is None:
        return None
    if teacher is not True and not isinstance(teacher, nn.Module):
        kind = type(teacher).__name__
        raise UqfcError(f"teacher: {kind}; accepted: True, False, a torch.nn.Module")
    own = copy.deepcopy(model if teacher is True else teacher)
    return own.eval().requires_grad_(False)
