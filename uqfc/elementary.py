"""Elementwise float functions: the float32 definition (shared with codegen) and the float64 one.

``UNARY[name].f32`` is written over an ``Arithmetic`` and is the meaning of the function on float32
tensors, to the bit. ``UNARY[name].f64`` is what a 256-entry table of a quantized tensor is built
from (``numerics.lookup_table``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from uqfc.numerics import ACTIVATIONS, F64, Vec


@dataclass(frozen=True)
class Unary:
    """An elementwise function of one tensor and ``parameters`` float constants."""

    parameters: int
    f32: Callable[..., Vec]
    f64: Callable[..., F64]


UNARY: dict[str, Unary] = {
    "relu": Unary(0, ACTIVATIONS["relu"], lambda x: np.maximum(x, 0)),
    "clip": Unary(2, ACTIVATIONS["clip"], lambda x, lo, hi: np.minimum(np.maximum(x, lo), hi)),
    "hard_sigmoid": Unary(
        2, ACTIVATIONS["hard_sigmoid"], lambda x, a, b: np.clip(a * x + b, 0, 1)
    ),
    "hard_swish": Unary(
        0, ACTIVATIONS["hard_swish"], lambda x: x * np.clip(x / 6 + 0.5, 0, 1)
    ),
    "leaky_relu": Unary(1, ACTIVATIONS["leaky_relu"], lambda x, a: np.where(x < 0, a * x, x)),
}
