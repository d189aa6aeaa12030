"""Conversions to quantized values that leave out what is proved to change nothing."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

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


def quotients(b: Builder, vectors: Sequence[Value], scale: Value, fast: bool) -> list[Value]:
    """``x / scale``, or what is rounded and clamped to the same u8; NaN taken as 0.

    ``fast`` multiplies by the reciprocal, and divides only if some lane is close to a tie (or is
    a NaN); it needs ``reciprocal_is_safe`` and bounds within ±2**10.
    """
    if not fast:
        return [b.nan_to_zero(x / scale) for x in vectors]
    quick = [x * (1.0 / scale) for x in vectors]
    clear = reduce(Value.__and__, [_is_clear(b, y) for y in quick])
    word = clear.bitcast(f"i{clear.lanes}", 0)
    with b.if_else(word.eq(-1)) as (then, other):
        with then:
            quick_block = b.ir.block
        with other:
            exact = [b.nan_to_zero(x / scale) for x in vectors]
            exact_block = b.ir.block
    chosen: list[Value] = []
    for one, more in zip(quick, exact, strict=True):
        phi = b.ir.phi(one.ir.type)
        phi.add_incoming(one.ir, quick_block)
        phi.add_incoming(more.ir, exact_block)
        chosen.append(Value(b, phi))
    return chosen


def _is_clear(b: Builder, y: Value) -> Value:
    """Lanes that are far from ties; beyond 2**22, where it may be wrong, all is clamped."""
    nearest = y + ROUNDING_MAGIC - ROUNDING_MAGIC
    distance = b.as_float(b.as_int(y - nearest) & 0x7FFFFFFF)
    return distance.lt(NEAR_TIE)
