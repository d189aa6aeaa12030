"""Elementwise functions that are exact or one operation, in float32 over an ``Arithmetic``."""

from __future__ import annotations

from uqfc.elementary_exponential import INF, absolute, copy_sign
from uqfc.numerics import Arithmetic, Vec, clip


def round_half_even(xp: Arithmetic, v: Vec) -> Vec:
    """Nearest integer, ties to even, for all magnitudes; keeps the sign of zero."""
    a = absolute(xp, v)
    rounded = copy_sign(xp, a + 2.0**23 - 2.0**23, v)
    return xp.select_less(a, 2.0**23, rounded, v)


def floor(xp: Arithmetic, v: Vec) -> Vec:
    nearest = round_half_even(xp, v)
    return xp.select_less(v, nearest, nearest - 1.0, nearest)


def ceil(xp: Arithmetic, v: Vec) -> Vec:
    return -floor(xp, -v)


def sqrt(xp: Arithmetic, v: Vec) -> Vec:
    return xp.sqrt(v)


def reciprocal(xp: Arithmetic, v: Vec) -> Vec:
    return 1.0 / v


def negate(xp: Arithmetic, v: Vec) -> Vec:
    return -v


def sign(xp: Arithmetic, v: Vec) -> Vec:
    """-1, +0 or 1."""
    return xp.select_less(v, 0.0, -1.0, xp.select_less(-v, 0.0, 1.0, v + 0.0))


def softsign(xp: Arithmetic, v: Vec) -> Vec:
    """``v / (1 + |v|)``."""
    bounded = clip(xp, v, -1e30, 1e30)
    return bounded / (absolute(xp, bounded) + 1.0)


def thresholded_relu(xp: Arithmetic, v: Vec, alpha: float) -> Vec:
    """``v if v > alpha else 0``."""
    return xp.select_less(-v, -alpha, v, xp.select_less(v, INF, 0.0, v))
