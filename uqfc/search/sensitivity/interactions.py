"""What two layers lose together beyond the sum of what each loses alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations, pairwise, product
from typing import TypeAlias

from uqfc.calibrated import Calibrated
from uqfc.errors import UqfcError
from uqfc.search.sensitivity.adaptive import Progress
from uqfc.search.sensitivity.divergence import kl_divergence
from uqfc.search.sensitivity.outputs import OutputLoss
from uqfc.search.sensitivity.samples import Setting, checked_choices, read_samples
from uqfc.search.sensitivity.table import Item, SensitivityTable

Pair: TypeAlias = tuple[str, str, str, str]
"""A layer and its weight type, and another layer and its weight type."""

MOST_SENSITIVE = 6
"""Layers whose pairs are measured by default, beside pairs of neighbours."""


def interactions(
    calibrated: Calibrated,
    samples: object,
    table: SensitivityTable,
    *,
    pairs: Iterable[Pair] | None = None,
    most_samples: int = 64,
    progress: Progress | None = None,
) -> dict[Pair, float]:
    """Extra loss, ``KL(both) − KL(first) − KL(second)`` in nats as method ``kl`` measures it.

    The mean over at most ``most_samples`` of the ``samples`` (what calibration accepts). ``pairs``:
    by default those of ``default_pairs(table)``. Negative where one layer hides what the other
    does. UqfcError for unknown layers and types, and for a pair of a layer with itself.
    """
    wanted = default_pairs(table) if pairs is None else list(pairs)
    choices: dict[str, tuple[str, ...]] = {}
    for first, dtype, second, other in wanted:
        if first == second:
            raise UqfcError(f"interactions: layer '{first}' with itself; accepted: two layers")
        choices[first] = (*choices.get(first, ()), dtype)
        choices[second] = (*choices.get(second, ()), other)
    setting = Setting(
        calibrated,
        read_samples(calibrated, samples, most_samples),
        checked_choices(calibrated, choices),
    )
    losses = OutputLoss(setting, kl_divergence)
    alone: dict[Item, float] = {}
    found: dict[Pair, float] = {}
    for done, pair in enumerate(wanted, 1):
        items = pair[:2], pair[2:]
        for item in items:
            if item not in alone:
                alone[item] = mean_loss(losses, dict([item]))
        found[pair] = mean_loss(losses, dict(items)) - sum(alone[item] for item in items)
        if progress is not None:
            progress("interactions", done, len(wanted))
    return found


def mean_loss(losses: OutputLoss, bit_widths: Mapping[str, str]) -> float:
    """Of an assignment, over all samples."""
    return float(losses.moved(bit_widths, 0, losses.available).mean())


def default_pairs(table: SensitivityTable, most_sensitive: int = MOST_SENSITIVE) -> list[Pair]:
    """Layers that follow each other, and the most sensitive ones with each other, in all types that
    were measured but the reference ones."""
    dtypes: dict[str, list[str]] = {layer: [] for layer in table.layers}
    worst = dict.fromkeys(table.layers, 0.0)
    for layer, dtype in list(table.loss):
        if table.loss[layer, dtype] != 0.0:
            dtypes[layer].append(dtype)
            worst[layer] = max(worst[layer], table.loss[layer, dtype])
    ranked = set(sorted(table.layers, key=lambda layer: -worst[layer])[:most_sensitive])
    chosen = [layer for layer in table.layers if layer in ranked]  # in their order, as neighbours
    layers = dict.fromkeys([*pairwise(table.layers), *combinations(chosen, 2)])
    return [
        (first, a, second, b)
        for first, second in layers
        for a, b in product(dtypes[first], dtypes[second])
    ]
