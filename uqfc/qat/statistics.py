"""The statistics of batch norms, measured again before a network is evaluated."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

import torch
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage] # the base

from uqfc.errors import UqfcError
from uqfc.qat.layers import LayerModules
from uqfc.qat.loading import Batch, Loader
from uqfc.qat.model import QatModel
from uqfc.qat.partial import norms_within


def reestimate_statistics(qat_model: QatModel, loader: Iterable[Any], batches: int = 50) -> None:
    """Set the running statistics of batch norms to averages over the first batches of a loader.

    Batches are ``(inputs, targets)``, as for ``finetune``. In training the statistics follow
    weights that change, with the noise of the last few batches; here weights stand still, and all
    batches count alike. Nothing else changes, nor does anything without batch norms.

    Raises UqfcError for a loader without batches, or for less than one.
    """
    data = Loader(loader, "loader", qat_model.quantization.weight_change.device)
    if batches < 1:
        raise UqfcError(f"batches: {batches}; accepted: 1 or more")
    average_statistics(qat_model, islice(data, batches))


def norms_of(qat_model: QatModel) -> list[_BatchNorm]:
    """The batch norms behind layers, and those within modules that stay float."""
    model, plan = qat_model.model, qat_model.plan
    behind = [LayerModules(model, layer.origin).batch_norm for layer in plan.layers.values()]
    found = [norm for norm in behind if norm is not None]
    for path in plan.kept:
        found += norms_within(model.get_submodule(path))
    return found


def average_statistics(qat_model: QatModel, batches: Iterable[Batch]) -> None:
    """``reestimate_statistics`` from batches.

    Weights are quantized with running statistics folded into them. The first batch replaces those
    that were, so that each batch sees weights folded with the average up to it.
    """
    modes = {module: module.training for module in qat_model.modules()}
    frozen, qat_model.frozen_statistics = qat_model.frozen_statistics, False
    qat_model.train()
    norms: dict[Any, float | None] = {}
    try:
        with torch.no_grad():
            for index, batch in enumerate(batches):
                qat_model.capture(*batch.inputs)
                for norm in norms_of(qat_model):
                    norms.setdefault(norm, norm.momentum)
                    norm.momentum = 1.0 / (index + 1)
                qat_model(*batch.inputs)
    finally:
        qat_model.frozen_statistics = frozen
        for norm, momentum in norms.items():
            norm.momentum = momentum
        for module, mode in modes.items():
            module.training = mode
