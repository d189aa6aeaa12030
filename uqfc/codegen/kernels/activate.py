"""Activations of an epilogue whose result is rounded to u8."""

from __future__ import annotations

from uqfc.codegen.arithmetic import CURRENT_ROUNDING, NotNanArithmetic
from uqfc.codegen.builder import Builder
from uqfc.codegen.elements import llvm_type
from uqfc.codegen.vector import LANES, Value
from uqfc.numerics import Activation

LEAST_MAGNITUDE = 2
"""Of ``vrangeps``: the operand of the smaller magnitude, with the sign of the first."""
HALF = 0.5


def activate(b: Builder, activation: Activation, v: Value) -> Value:
    """``activation(v)`` for f32 lanes, not NaN, where the sign of a zero does not matter."""
    if b.isa.name == "vnni512" and v.lanes == LANES:
        if activation.name == "hard_swish":
            return v * _hard_sigmoid(b, v * (1.0 / 6.0))
        if activation.name == "hard_sigmoid" and activation.params[1] == HALF:
            return _hard_sigmoid(b, v * activation.params[0])
    return activation(NotNanArithmetic(b), v)


def _hard_sigmoid(b: Builder, u: Value) -> Value:
    """``clip(u + 0.5, 0, 1)`` in two instructions: ``u`` is limited to ±0.5 before the addition.

    Where ``|u| <= 0.5`` the sum is within the clip, elsewhere it is 0 or 1 exactly.
    """
    mask = b.constant("i1", 1, LANES).bitcast("i16", 0)
    operands = (u, b.f32(HALF, LANES), b.i32(LEAST_MAGNITUDE), u, mask, b.i32(CURRENT_ROUNDING))
    name = "llvm.x86.avx512.mask.range.ps.512"
    return b.intrinsic(name, llvm_type("f32", LANES), *operands) + HALF
