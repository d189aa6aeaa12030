"""Which kernel computes what a launch means; see ``registry``."""

from __future__ import annotations

from uqfc.codegen.lowering import (
    elementwise,
    float8_layers,
    float_layers,
    integer_layers,
    tensor_ops,
)
from uqfc.codegen.lowering.registry import (
    LOWERINGS,
    RESULT,
    Choice,
    alternatives,
    choose,
    lowering,
)
from uqfc.codegen.lowering.tensor_ops import tensor_choice

FAMILIES = (elementwise, float_layers, float8_layers, integer_layers, tensor_ops)
"""Modules whose import registers lowerings."""

__all__ = [
    "FAMILIES",
    "LOWERINGS",
    "RESULT",
    "Choice",
    "alternatives",
    "choose",
    "lowering",
    "tensor_choice",
]
