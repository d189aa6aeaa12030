"""Quantization without a division rounds every float like the definition does."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from uqfc.codegen.kernels.quantizing import exact_reciprocal

SCALES = st.floats(2.0**-40, 2.0**40, width=32)


def rounded_sum(x: np.float32, r: float, addend: np.float32) -> int:
    """``rne(fma(x, r, addend))``: the sum is rounded to 24 bits, half to even, and then again."""
    exact = Fraction(float(x)) * Fraction(r) + Fraction(float(addend))
    if exact == 0:
        return 0
    exponent = abs(exact.numerator).bit_length() - exact.denominator.bit_length()
    exponent -= abs(exact) < Fraction(2) ** exponent
    unit = Fraction(2) ** (exponent - 23)
    return round(round(exact / unit) * unit)


@given(SCALES, st.integers(-255, 254), st.integers(-6, 6))
def test_products_with_the_exact_reciprocal_round_like_quotients(
    scale: float, below: int, floats: int
) -> None:
    pair = exact_reciprocal(scale, -255, 255)
    assert pair is not None
    tie = np.float32((below + 0.5) * scale)
    x = np.float32(tie + floats * np.spacing(tie))
    addend = x * np.float32(pair[1])
    assert rounded_sum(x, pair[0], addend) == int(np.rint(x / np.float32(scale)))


def test_scales_without_an_exact_reciprocal() -> None:
    assert exact_reciprocal(2.0**-120, 0, 255) is None
    assert exact_reciprocal(2.0**120, 0, 255) is None
    assert exact_reciprocal(-0.5, 0, 255) is None
