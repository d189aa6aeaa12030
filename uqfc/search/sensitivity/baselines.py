"""``perturbation`` and ``random``: what the other methods must be better than."""

from __future__ import annotations

import numpy as np

from uqfc.search.sensitivity.samples import Setting
from uqfc.search.sensitivity.table import Item
from uqfc.search.sensitivity.units import squared_change


def perturbation(setting: Setting) -> dict[Item, float]:
    """‖δ‖² of a layer's weights, which knows nothing of the rest of the network."""
    parameters = setting.quantized_parameters
    return {item: squared_change(setting, item, own.weight) for item, own in parameters.items()}


def noise(setting: Setting) -> dict[Item, float]:
    """Independent uniform numbers, which know nothing at all."""
    random = np.random.default_rng(setting.seed)
    return {item: float(random.uniform()) for item in setting.items}
