"""Elementwise functions of one tensor."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from uqfc.frontend.builder import Builder
from uqfc.frontend.torch.call import Call
from uqfc.frontend.torch.registry import converter
from uqfc.frontend.values import Value

PLAIN = {
    "hardswish": "hard_swish",
    "relu": "relu",
    "sigmoid": "sigmoid",
    "silu": "silu",
}
"""ATen op: elementary function without parameters."""

HARD_SIGMOID = (float(np.float32(1 / 6)), 0.5)
"""Alpha and beta; alpha as ONNX exports have it."""


def plain(name: str) -> Callable[[Call, Builder], Value]:
    def convert(call: Call, b: Builder) -> Value:
        return b.unary(name, call.real_tensor("self"))

    return convert


for _op, _name in PLAIN.items():
    converter(_op)(plain(_name))


@converter("hardsigmoid")
def hardsigmoid(call: Call, b: Builder) -> Value:
    return b.unary("hard_sigmoid", call.real_tensor("self"), *HARD_SIGMOID)
