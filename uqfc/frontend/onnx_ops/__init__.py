"""Converters of ONNX ops, by family. Importing this package registers them all."""

from __future__ import annotations

from uqfc.frontend.onnx_ops import (
    activations,
    comparisons,
    convolution,
    elementwise,
    indexing,
    integer_products,
    matmul,
    movement,
    normalization,
    pooling,
    qoperators,
    quantization,
    reductions,
    resize,
    shapes,
    transposed_convolution,
)
from uqfc.frontend.onnx_ops.registry import CONVERTERS, Converter

FAMILIES = (
    activations,
    comparisons,
    convolution,
    elementwise,
    indexing,
    integer_products,
    matmul,
    movement,
    normalization,
    pooling,
    qoperators,
    quantization,
    reductions,
    resize,
    shapes,
    transposed_convolution,
)
"""Modules whose import registers converters."""

__all__ = ["CONVERTERS", "FAMILIES", "Converter"]
