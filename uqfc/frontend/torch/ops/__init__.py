"""Converters of ATen ops, by family. Importing this package registers them all."""

from __future__ import annotations

from uqfc.frontend.torch.ops import (
    activations,
    convolution,
    elementwise,
    images,
    indexing,
    movement,
    normalization,
    pooling,
    products,
    reductions,
)
from uqfc.frontend.torch.registry import CONVERTERS, Converter

FAMILIES = (
    activations,
    convolution,
    elementwise,
    images,
    indexing,
    movement,
    normalization,
    pooling,
    products,
    reductions,
)
"""Modules whose import registers converters."""

__all__ = ["CONVERTERS", "FAMILIES", "Converter"]
