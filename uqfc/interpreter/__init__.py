"""The meaning of every op, at every level of IR: the oracle that everything else is tested against.

Slow and obvious on purpose. ``Interpreter().run(module, inputs)`` gives the outputs by name.
"""

from __future__ import annotations

from uqfc.interpreter import float8, nn, nn_layers, nn_reductions, qkernel, qnn, quant
from uqfc.interpreter.engine import (
    Interpreter,
    Observe,
    input_names,
    main_function,
    output_names,
)
from uqfc.interpreter.nn import apply_fn
from uqfc.interpreter.products import (
    Window,
    conv2d_patches,
    integer_conv2d,
    integer_linear,
    integer_matmul,
)
from uqfc.interpreter.registry import CONTEXTUAL_MEANINGS, MEANINGS, contextual_meaning, meaning

FAMILIES = (nn, nn_layers, nn_reductions, quant, qnn, float8, qkernel)
"""Modules whose import registers meanings."""

__all__ = [
    "CONTEXTUAL_MEANINGS",
    "FAMILIES",
    "MEANINGS",
    "Interpreter",
    "Observe",
    "Window",
    "apply_fn",
    "contextual_meaning",
    "conv2d_patches",
    "input_names",
    "integer_conv2d",
    "integer_linear",
    "integer_matmul",
    "main_function",
    "meaning",
    "output_names",
]
