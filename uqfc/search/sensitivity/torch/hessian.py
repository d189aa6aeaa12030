"""``hessian``: the trace of the loss's Hessian per layer, by Hutchinson's estimator in PyTorch.

For Rademacher vectors z over a layer's weights, ``E[zᵀ H_ll z] = tr H_ll`` (M. F. Hutchinson, Comm.
Stat. Sim. 19, 1990), exactly ``tr H_ll`` for every z if H_ll is diagonal. ``H_ll z`` comes from two
backward passes and is exact. A vector over the weights of all layers would be a probe of each at
once, but its cross terms ``z_lᵀ H_lk z_k`` drown small layers: on the networks of docs/benchmarks/
sensitivity.json the deviation of a probe is 3 to 500 times as large. The table's entries are those
of HAWQ-V2 (Z. Dong et al., NeurIPS 2020): ``½ (tr H_ll / n) ‖δ‖²``.

The loss is the mean cross-entropy of the samples, with their labels, or else with the float
network's own softmax as the target: its Hessian there is the Gauss-Newton matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from uqfc.errors import UqfcError
from uqfc.numerics import F64
from uqfc.search.sensitivity.floating import float_module
from uqfc.search.sensitivity.samples import Samples
from uqfc.search.sensitivity.torch.network import TorchNetwork
from uqfc.search.sensitivity.units import PerProbe

BATCH = 8
"""Samples that are differentiated together: what two backward passes need is kept for all."""


@dataclass(frozen=True)
class HessianTrace(PerProbe):
    """zᵀ H_ll z of each probe z."""

    dtype: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        count, labels = len(self.setting.samples), self.setting.labels
        if labels is not None and len(labels) != count:
            raise UqfcError(f"sensitivity: {len(labels)} labels for {count} samples")

    def measure(self, layer: str, start: int, stop: int) -> dict[str, F64]:
        weight = self.network.weights[layer]
        vectors = [
            torch.from_numpy(self.signs(layer, probe, weight.numel()))
            for probe in range(start, stop)
        ]
        shaped = [vector.to(self.dtype).reshape(weight.shape) for vector in vectors]
        setting = self.setting
        found = quadratic_forms(self.network, weight, setting.samples, setting.labels, shaped)
        return {layer: found}

    @cached_property
    def network(self) -> TorchNetwork:
        floating = self.setting.floating
        module = float_module(self.setting.calibrated.module, floating.parameters)
        return TorchNetwork(module, list(self.setting.choices), self.dtype)


def quadratic_forms(
    network: TorchNetwork,
    weight: Tensor,
    samples: Samples,
    labels: NDArray[np.int64] | None,
    vectors: Sequence[Tensor],
) -> F64:
    """``vᵀ H v`` of each vector, [vectors]; H is the Hessian of the mean loss in one weight."""
    found = np.zeros(len(vectors))
    for start in range(0, len(samples), BATCH):
        batch = samples[start : start + BATCH]
        targets = None if labels is None else torch.from_numpy(labels[start : start + BATCH])
        value = loss(network.run(batch), targets) * (len(batch) / len(samples))
        (gradient,) = torch.autograd.grad(value, [weight], create_graph=True)
        if not gradient.requires_grad:  # the loss is linear in the weight
            continue
        for index, vector in enumerate(vectors):
            (product,) = torch.autograd.grad(
                gradient, [weight], vector, retain_graph=True, materialize_grads=True
            )
            found[index] += float((vector * product).sum())
    return found


def loss(outputs: Sequence[Tensor], labels: Tensor | None) -> Tensor:
    """Mean cross-entropy in nats: axes but the first and the last are averaged, outputs added up.

    Without labels the target is the softmax itself. UqfcError for labels that are no classes.
    """
    total = outputs[0].new_zeros(())
    for output in outputs:
        logits = output.reshape(-1, output.shape[-1])
        if labels is None:
            target = functional.softmax(logits.detach(), dim=-1)
        else:
            wrong = labels[(labels < 0) | (labels >= logits.shape[-1])]
            if len(wrong):
                accepted = f"0 to {logits.shape[-1] - 1}"
                raise UqfcError(f"sensitivity: label {int(wrong[0])}; accepted: {accepted}")
            target = labels.repeat_interleave(len(logits) // len(labels))
        total = total + functional.cross_entropy(logits, target)
    return total
