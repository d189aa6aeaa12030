"""Conversions to quantized values that leave out what is proved to change nothing."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, reduce

import numpy as np

from uqfc.codegen.arithmetic import ROUNDING_MAGIC
from uqfc.codegen.builder import Builder
from uqfc.codegen.vector import Value
from uqfc.numerics import F32

NEAR_TIE = 0.5 - 2.0**-12
"""Quotients whose distance to the nearest integer is less are rounded the same in both ways.

``x * float32(1 / scale)`` and ``x / scale`` differ by at most 3 * 2**-24 of their magnitude; below
2**10 that is less than 2**-12, and above it both are clamped to the same bound.
"""

AROUND = 4
"""Floats on both sides of a tie among which the quotients' rounding changes."""


def reciprocal_is_safe(scale: float) -> bool:
    """The reciprocal is a normal number, and so is every quotient that matters."""
    return 2.0**-100 <= abs(scale) <= 2.0**100


@lru_cache
def exact_reciprocal(scale: float, low: int, high: int) -> tuple[float, float] | None:
    """``(r, c)`` such that ``rne(fma(x, r, x * c)) == rne(x / scale)`` for every float32 ``x``.

    After clamping to ``low`` and ``high``, and if the left side is a number that fits int32.
    ``r`` is ``1 / scale`` and ``c`` what is missing of it. Both sides grow with ``x``, so that they
    are the same if they are at the floats around each of the ``high - low`` steps; None if not.
    """
    if not reciprocal_is_safe(scale) or scale < 0:
        return None
    divisor = np.float32(scale)
    r = np.float32(1.0 / float(divisor))
    c = np.float32(1.0 / float(divisor) - float(r))
    ties = (np.arange(low, high) + 0.5) * float(divisor)
    x = ties.astype(np.float32)[:, None]
    x = x + np.abs(np.spacing(x)) * np.arange(-AROUND, AROUND + 1, dtype=np.float32)
    wanted = np.rint(x / divisor)
    steps = np.all(wanted[:, -1] == wanted[:, 0] + 1)
    same = np.array_equal(np.rint(_fused_multiply_add(x, r, x * c)), wanted)
    return (float(r), float(c)) if steps and same else None


def _fused_multiply_add(x: F32, r: np.float32, addend: F32) -> F32:
    """``x * r + addend``, rounded once: to odd in float64, which rounds like the exact sum does.

    Boldo and Melquiond, Emulation of a FMA and correctly rounded sums (2008).
    """
    product, more = x.astype(np.float64) * np.float64(r), addend.astype(np.float64)
    total = product + more
    part = total - product
    error = (product - (total - part)) + (more - part)
    is_even = total.view(np.int64) % 2 == 0
    toward = np.where(error > 0, np.inf, -np.inf)
    odd = np.where((error != 0) & is_even, np.nextafter(total, toward), total)
    return odd.astype(np.float32)


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
