"""Which kernel computes what a launch means; see ``registry``."""

from __future__ import annotations

from uqfc.codegen.lowering import elementwise, integer_layers
from uqfc.codegen.lowering.registry import LOWERINGS, Choice, choose, lowering

FAMILIES = (elementwise, integer_layers)
"""Modules whose import registers lowerings."""

__all__ = ["FAMILIES", "LOWERINGS", "Choice", "choose", "lowering"]
