"""Which bits where: search over the weight types of a network's layers."""

from __future__ import annotations

from uqfc.search.bit_width import search_bit_width
from uqfc.search.constraints import Constraints, Metric
from uqfc.search.result import SearchResult

__all__ = ["Constraints", "Metric", "SearchResult", "search_bit_width"]
