"""Elementwise functions as ONNX nodes."""

from __future__ import annotations

from collections.abc import Callable

from xdsl.ir import Operation

from uqfc.frontend.uqr.export.graph import Graph
from uqfc.frontend.values import UnsupportedUseError
from uqfc.numerics import Activation

PLAIN = {
    "abs": "Abs",
    "ceil": "Ceil",
    "cos": "Cos",
    "erf": "Erf",
    "exp": "Exp",
    "floor": "Floor",
    "gelu": "Gelu",
    "hard_swish": "HardSwish",
    "log": "Log",
    "mish": "Mish",
    "neg": "Neg",
    "reciprocal": "Reciprocal",
    "relu": "Relu",
    "round": "Round",
    "selu": "Selu",
    "sigmoid": "Sigmoid",
    "sign": "Sign",
    "sin": "Sin",
    "softplus": "Softplus",
    "softsign": "Softsign",
    "sqrt": "Sqrt",
    "tanh": "Tanh",
}
"""Functions without parameters that are an ONNX op."""

ONE_ALPHA = {
    "celu": "Celu",
    "elu": "Elu",
    "leaky_relu": "LeakyRelu",
    "thresholded_relu": "ThresholdedRelu",
}
Write = Callable[[Graph, Operation, str, Activation], str]


def clip(g: Graph, op: Operation, x: str, function: Activation) -> str:
    low, high = (g.real(p) for p in function.params)
    return g.apply(op, "Clip", [x, low, high])


def hard_sigmoid(g: Graph, op: Operation, x: str, function: Activation) -> str:
    alpha, beta = function.params
    return g.apply(op, "HardSigmoid", [x], alpha=alpha, beta=beta)


def gelu_tanh(g: Graph, op: Operation, x: str, function: Activation) -> str:
    del function
    return g.apply(op, "Gelu", [x], approximate="tanh")


def silu(g: Graph, op: Operation, x: str, function: Activation) -> str:
    """Two nodes: there is no op for it before opset 24."""
    del function
    return g.apply(op, "Mul", [x, g.apply(op, "Sigmoid", [x])])


OTHERS: dict[str, Write] = {
    "clip": clip,
    "gelu_tanh": gelu_tanh,
    "hard_sigmoid": hard_sigmoid,
    "silu": silu,
}


def function_of(g: Graph, op: Operation, x: str, function: Activation) -> str:
    """The tensor ``function(x)``, as a part of ``op``."""
    if function.name in PLAIN:
        return g.apply(op, PLAIN[function.name], [x])
    if function.name in ONE_ALPHA:
        return g.apply(op, ONE_ALPHA[function.name], [x], alpha=function.params[0])
    if function.name in OTHERS:
        return OTHERS[function.name](g, op, x, function)
    raise UnsupportedUseError(f"there is no ONNX op for the function '{function.name}'")
