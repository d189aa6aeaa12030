"""Integer lanes: wrap-around, division, powers and conversions, as NumPy and ``nn`` define them."""

from __future__ import annotations

from uqfc.codegen.elements import llvm_type
from uqfc.codegen.kernels.tensor import Dtype
from uqfc.codegen.vector import Value

BITS: dict[Dtype, int] = {"u8": 8, "i8": 8, "i32": 32, "i64": 64}


def wrap(dtype: Dtype, v: Value) -> Value:
    """Lanes of an 8-bit type, which are held in int32, back in its range modulo 256."""
    match dtype:
        case "u8":
            return v & 0xFF
        case "i8":
            return (v << 24) >> 24
        case _:
            return v


def divide(x: Value, y: Value) -> Value:
    """Truncated towards zero; ``x / 0`` is 0; ``x / -1`` is ``-x`` modulo the word."""
    b = x.b
    zero, minus_one = y.eq(0), y.eq(-1)
    one = b.constant(y.element, 1, y.lanes)
    safe = b.select(zero, one, b.select(minus_one, one, y))
    quotient = Value(b, b.ir.sdiv(x.ir, safe.ir))
    quotient = b.select(minus_one, -x, quotient)
    return b.select(zero, b.constant(x.element, 0, x.lanes), quotient)


def integer_power(dtype: Dtype, x: Value, y: Value) -> Value:
    """``x**y`` modulo the word; a negative power is the truncated reciprocal's (0**-n is 0)."""
    b = x.b
    one, zero = b.constant(x.element, 1, x.lanes), b.constant(x.element, 0, x.lanes)
    odd = (y & 1).ne(0)
    negative = y.lt(0)
    exponent = b.select(negative, zero, y)
    state = [one, x, exponent]
    with b.loop(0, BITS[dtype], carry=state):
        result, base, rest = state
        result = b.select((rest & 1).ne(0), result * base, result)
        state[:] = [result, base * base, rest.shift_right_logical(1)]
    unit = b.select(x.eq(-1), b.select(odd, x, one), zero)
    reciprocal = b.select(x.eq(1), one, unit)
    return wrap(dtype, b.select(negative, reciprocal, state[0]))


def convert(source: Dtype, target: Dtype, v: Value) -> Value:
    """``nn.cast`` of lanes."""
    b = v.b
    if source == target:
        return v
    if target == "i1":
        return v.eq(0) ^ 1
    if source == "i1":
        integer = v.zext("i64" if target == "i64" else "i32")
        return b.to_float(integer) if target == "f32" else integer
    if target == "f32":
        return b.to_float(v)
    if source == "f32":
        return _from_float(target, v)
    if target == "i64":
        return v.sext("i64")
    return wrap(target, v.trunc("i32") if source == "i64" else v)


def _from_float(target: Dtype, v: Value) -> Value:
    b = v.b
    element = "i64" if target == "i64" else "i32"
    suffix = f"v{v.lanes}{element}.v{v.lanes}f32"
    kind = llvm_type(element, v.lanes)
    whole = b.intrinsic(f"llvm.fptosi.sat.{suffix}", kind, v)
    match target:
        case "u8":
            return _clamp(whole, 0, 255)
        case "i8":
            return _clamp(whole, -128, 127)
        case _:
            return whole


def _clamp(v: Value, low: int, high: int) -> Value:
    b = v.b
    bottom, top = b.constant("i32", low, v.lanes), b.constant("i32", high, v.lanes)
    v = b.select(v.lt(bottom), bottom, v)
    return b.select(v.gt(top), top, v)
