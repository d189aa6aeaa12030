"""Conversions to quantized values that leave out what is proved to change nothing."""

from __future__ import annotations

from uqfc.codegen.arithmetic import ROUNDING_MAGIC
from uqfc.codegen.builder import Builder
from uqfc.codegen.vector import Value

NEAR_TIE = 0.5 - 2.0**-12
"""Quotients whose distance to the nearest integer is less are rounded the same in both ways.

``x * float32(1 / scale)`` and ``x / scale`` differ by at most 3 * 2**-24 of their magnitude; below
2**10 that is less than 2**-12, and above it both are clamped to the same bound.
"""


def reciprocal_is_safe(scale: float) -> bool:
    """The reciprocal is a normal number, and so is every quotient that matters."""
    return 2.0**-100 <= abs(scale) <= 2.0**100


def is_moderate(*multipliers: float) -> bool:
    """No sum or product of an integer of few bits with them overflows, and none is a NaN."""
    return all(abs(m) < 2.0**100 for m in multipliers)


def round_quotient(
    b: Builder,
    x: Value,
    scale: Value,
    bounds: tuple[Value, Value],
    zero_point: Value,
    fast: bool,
) -> Value:
    """``zero_point + rne(clamp(x / scale, *bounds))`` int32, NaN taken as 0.

    ``fast`` multiplies by the reciprocal, and divides only if some lane is close to a tie (or is
    a NaN); it needs ``reciprocal_is_safe`` and |bounds| < 2**10.
    """
    low, high = bounds
    if not fast:
        return _divide_and_round(b, x, scale, bounds, zero_point)
    y = b.clamp(x * (1.0 / scale), low - 1.0, high + 1.0)
    nearest = y + ROUNDING_MAGIC - ROUNDING_MAGIC
    distance = b.as_float(b.as_int(y - nearest) & 0x7FFFFFFF)
    clear = distance.lt(NEAR_TIE)
    word = clear.bitcast(f"i{x.lanes}", 0)
    with b.if_else(word.eq(-1)) as (then, other):
        with then:
            quick = b.round_clamped(b.clamp(y, low, high), zero_point)
            quick_block = b.ir.block
        with other:
            exact = _divide_and_round(b, x, scale, bounds, zero_point)
            exact_block = b.ir.block
    phi = b.ir.phi(quick.ir.type)
    phi.add_incoming(quick.ir, quick_block)
    phi.add_incoming(exact.ir, exact_block)
    return Value(b, phi)


def _divide_and_round(
    b: Builder, x: Value, scale: Value, bounds: tuple[Value, Value], zero_point: Value
) -> Value:
    v = b.clamp(b.nan_to_zero(x / scale), *bounds)
    return b.round_clamped(v, zero_point)
