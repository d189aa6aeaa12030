"""The optimizer that ``finetune`` takes if it is given none, and its learning rates."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from uqfc.errors import UqfcError

MakeOptimizer = Callable[[list[dict[str, Any]]], Optimizer]
"""From groups of parameters to an optimizer of them."""

SCHEDULES = ("cosine", "constant")
WARMUP = 50
"""Steps in which the learning rate grows; at most a tenth of all."""


def parameter_groups(model: nn.Module, learning_rate: float, decay: float) -> list[dict[str, Any]]:
    """Weights, which decay, and what does not: biases, parameters of norms, scales.

    Weights are the trained parameters of two or more dimensions.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    weights = [parameter for parameter in trained if parameter.ndim > 1]
    others = [parameter for parameter in trained if parameter.ndim <= 1]
    groups = [{"params": weights, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]
    return [{**group, "lr": learning_rate} for group in groups if group["params"]]


def make_optimizer(
    given: Optimizer | MakeOptimizer | None, groups: list[dict[str, Any]]
) -> Optimizer:
    """AdamW of the groups, or what was given. UqfcError if that is no optimizer."""
    if isinstance(given, Optimizer):
        return given
    if not groups:
        raise UqfcError("finetune: the model has no parameter that requires a gradient")
    if given is None:
        return torch.optim.AdamW(groups)
    made: Any = given(groups) if callable(given) else None
    if isinstance(made, Optimizer):
        return made
    raise UqfcError(
        f"optimizer: {type(given).__name__}; accepted: a torch.optim.Optimizer, or a function of "
        "groups of parameters that gives one"
    )


class Schedule:
    """Learning rates of all groups, as shares of those that the optimizer came with.

    A linear warm-up, then half a cosine to zero ("cosine"), or no change ("constant").
    """

    def __init__(self, optimizer: Optimizer, steps: int, kind: str) -> None:
        if kind not in SCHEDULES:
            raise UqfcError(f"schedule: {kind!r}; accepted: {', '.join(SCHEDULES)}")
        self.optimizer, self.steps, self.kind = optimizer, steps, kind
        self.rates = [group["lr"] for group in optimizer.param_groups]

    def share(self, step: int) -> float:
        """For the step of that number, from 0."""
        warmup = max(1, min(WARMUP, self.steps // 10))
        rising = min(1.0, (step + 1) / warmup)
        cosine = 0.5 * (1.0 + math.cos(math.pi * min(1.0, step / self.steps)))
        return rising * (1.0 if self.kind == "constant" else cosine)

    def set(self, step: int) -> float:
        """Set the rates of a step; gives that of the first group."""
        return self.apply(self.share(step))

    def restore(self) -> None:
        """The rates that the optimizer came with."""
        self.apply(1.0)

    def apply(self, share: float) -> float:
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * share
        return float(self.optimizer.param_groups[0]["lr"])
