"""What each layer's weight types cost: the numbers that a search over bit widths adds up."""

from __future__ import annotations

from uqfc.search.sensitivity.adaptive import Progress, Rounds
from uqfc.search.sensitivity.interactions import Pair, default_pairs, interactions
from uqfc.search.sensitivity.measure import Method, measure_sensitivity
from uqfc.search.sensitivity.quantized import QuantizedNetworks
from uqfc.search.sensitivity.table import Item, SensitivityTable

__all__ = [
    "Item",
    "Method",
    "Pair",
    "Progress",
    "QuantizedNetworks",
    "Rounds",
    "SensitivityTable",
    "default_pairs",
    "interactions",
    "measure_sensitivity",
]
