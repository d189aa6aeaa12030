"""Arithmetic of two or more tensors that broadcast."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

from xdsl.dialects.builtin import f32

from uqfc.dialects import nn
from uqfc.frontend.builder import Builder
from uqfc.frontend.node import Node, as_float
from uqfc.frontend.onnx_ops.registry import converter
from uqfc.frontend.values import UnsupportedUseError, Value, constant, kind, known, rank

BINARY: dict[str, type[nn.BinaryOp]] = {
    "Add": nn.AddOp,
    "Sub": nn.SubOp,
    "Mul": nn.MulOp,
    "Div": nn.DivOp,
}
VARIADIC: dict[str, type[nn.BinaryOp]] = {
    "Max": nn.MaximumOp,
    "Min": nn.MinimumOp,
    "Sum": nn.AddOp,
}


def binary(op: type[nn.BinaryOp]) -> Callable[[Node, Builder], Value]:
    def convert(node: Node, b: Builder) -> Value:
        return b.binary(op, node.input(0), node.input(1))

    return convert


def variadic(op: type[nn.BinaryOp]) -> Callable[[Node, Builder], Value]:
    """From left to right."""

    def convert(node: Node, b: Builder) -> Value:
        return reduce(lambda x, y: b.binary(op, x, y), node.all_inputs())

    return convert


for _name, _op in BINARY.items():
    converter(_name)(binary(_op))
for _name, _op in VARIADIC.items():
    converter(_name)(variadic(_op))


@converter("Mean")
def mean(node: Node, b: Builder) -> Value:
    inputs = node.all_inputs()
    return b.div(reduce(b.add, inputs), constant(float(len(inputs))))


@converter("Pow")
def power(node: Node, b: Builder) -> Value:
    """Squares and square roots are single exact operations; integers can only be squared."""
    x, exponent = node.input(0), node.input(1)
    array = known(exponent)
    single = array is not None and array.size == 1 and array.ndim <= rank(x)
    number = as_float(array) if array is not None and single else None
    if number == 2.0:
        return b.mul(x, x)
    if kind(x) != f32:
        raise UnsupportedUseError(
            f"base has elements {kind(x)}: only squares of integers are supported"
        )
    if number == 0.5:
        return b.unary("sqrt", x)
    return b.binary(nn.PowOp, x, b.cast(exponent, f32))


@converter("Mod")
def mod(node: Node, b: Builder) -> Value:
    """``fmod`` 1: the sign of the dividend; 0 (integers): that of the divisor."""
    x, y = node.input(0), node.input(1)
    if kind(x) == f32:
        raise UnsupportedUseError("floats are not supported")
    remainder = b.sub(x, b.mul(b.div(x, y), y))
    if node.flag("fmod"):
        return remainder
    zero = b.zero_like(x)
    signs_differ = b.compare("ne", b.compare("lt", remainder, zero), b.compare("lt", y, zero))
    corrected = b.select(signs_differ, b.add(remainder, y), remainder)
    return b.select(b.compare("eq", remainder, zero), remainder, corrected)
