"""erf, GELU, sin, cos and power, in float32 over an ``Arithmetic``."""

from __future__ import annotations

from collections.abc import Sequence

from uqfc.elementary_exponential import (
    INF,
    LN2,
    NAN,
    ROUNDING_MAGIC,
    ROUNDING_MAGIC_BITS,
    SMALLEST,
    absolute,
    copy_sign,
    exp,
    exp_of_sum,
    exponential_minus_one_core,
    polynomial,
    scale_by_power,
    sigmoid,
    split_exponent,
)
from uqfc.elementary_rounding import round_half_even
from uqfc.numerics import Arithmetic, Vec, clip

_ERF = (
    0.12837917,
    -0.37612626,
    0.11283579,
    -0.026853347,
    0.005187162,
    -0.0007997853,
    7.806903e-05,
)
"""``erf(x) / x - 1`` in x**2 for |x| <= 1, error 2**-29."""

_LOG_ERFC = (
    -1.8496056,
    -2.6389627,
    -0.8431726,
    -0.04125943,
    0.009445837,
    -0.0014753089,
    8.860039e-05,
)
"""``log(erfc(1 + u))`` for 0 <= u <= 3, error 2**-26 of erf."""

_TAIL_NUMERATOR = (0.5, 0.43849695, 0.183385, 0.040683802, 0.004123832)
_TAIL_DENOMINATOR = (1.0, 1.674879, 1.2031251, 0.4698663, 0.10198555, 0.010336797)
"""``erfc(t / sqrt(2)) / 2 * e**(t**2 / 2)`` for 0 <= t <= 14.6, error 2**-24."""

_SIN = (-0.16666667, 0.008333379, -0.00019853072, 2.8326801e-06)
"""``(sin(r) / r - 1) / r**2`` in r**2 for |r| <= pi / 4, error 2**-32."""

_COS = (0.041666668, -0.001388898, 2.4822008e-05, -2.8878452e-07)
"""``(cos(r) - 1 + r**2 / 2) / r**4`` in r**2 for |r| <= pi / 4, error 2**-37."""

_HALF_PI = (1.5703125, 0.0004837512969970703, 7.549533620476723e-08, 2.5633440682570896e-12)
"""pi / 2 in parts of few bits: the products with quarter-turn counts up to 2**13 are exact."""

_ATANH = (0.59999996, 0.4285796, 0.33269423, 0.29339194)
"""``(3 * atanh(s) / s - 3 - s**2) / s**4`` in s**2 for |s| <= 0.1718, error 2**-43."""

_HIGH_BITS = -4096
"""Keeps 12 bits of a significand: products of two such numbers are exact."""


def high_part(xp: Arithmetic, v: Vec) -> Vec:
    return xp.as_float(xp.as_int(v) & _HIGH_BITS)


def erf(xp: Arithmetic, v: Vec) -> Vec:
    """1.2 ulp: an odd polynomial up to 1, then ``1 - e**p(|v|)``."""
    near = v + v * polynomial(v * v, _ERF)
    a = absolute(xp, v)
    far = 1.0 - exp(xp, polynomial(xp.minimum(a, 4.0) - 1.0, _LOG_ERFC))
    return xp.select_less(a, 1.0, near, copy_sign(xp, far, v))


def gelu(xp: Arithmetic, v: Vec) -> Vec:
    """``v * Phi(v)``, Phi the normal distribution; -0.0 at -inf.

    3.8 ulp above -1, 6.2 ulp below. ``Phi(-t) = e**(-t**2 / 2) * P(t) / Q(t)``; the square is
    taken in two parts, because the exponential would magnify its rounding error.
    """
    t = xp.minimum(absolute(xp, v), 20.0)
    high = high_part(xp, t)
    rest = (high - t) * (high + t) * 0.5
    exponential = exp_of_sum(xp, high * high * -0.5, rest)
    ratio = polynomial(t, _TAIL_NUMERATOR) / polynomial(t, _TAIL_DENOMINATOR)
    bounded = xp.maximum(v, -20.0)
    above = bounded * (1.0 - exponential * ratio)
    return xp.select_less(v, 0.0, exponential * (bounded * ratio), above)


def gelu_tanh(xp: Arithmetic, v: Vec) -> Vec:
    """``v * sigmoid(2 * u)``, ``u = sqrt(2 / pi) * (v + 0.044715 * v**3)``.

    3.2 ulp above -1; below, the exponential magnifies the rounding of ``u``: 200 ulp at -9.
    """
    c = xp.maximum(v, -20.0)
    u = (c * c * 0.044715 + 1.0) * c * 1.5957691216057308
    return c * sigmoid(xp, u)


def _quarter_turns(xp: Arithmetic, a: Vec) -> tuple[Vec, Vec]:
    """``(n, r)`` with ``a = n * pi / 2 + r``, |r| <= pi / 4 (nearly), n int32 modulo 4."""
    shifted = a * 0.6366197723675814 + ROUNDING_MAGIC
    n = shifted - ROUNDING_MAGIC
    r = a
    for part in _HALF_PI:
        r = r - n * part
    quarter = (xp.as_int(shifted) - ROUNDING_MAGIC_BITS) & 3
    return quarter, clip(xp, r, -0.7865, 0.7865)


def _sine_and_cosine(r: Vec) -> tuple[Vec, Vec]:
    square = r * r
    sine = r + r * (square * polynomial(square, _SIN))
    cosine = 1.0 - (square * 0.5 - square * square * polynomial(square, _COS))
    return sine, cosine


def _turned(xp: Arithmetic, quarter: Vec, even: Vec, odd: Vec) -> Vec:
    """``even, odd, -even, -odd`` for quarter 0, 1, 2, 3."""
    sign = 1.0 - xp.to_float(quarter & 2)
    return xp.select_less(xp.to_float(quarter & 1), 0.5, even, odd) * sign


def sin(xp: Arithmetic, v: Vec) -> Vec:
    """2.1 ulp for |v| <= 8192; beyond, the period is inexact and the result still in [-1, 1]."""
    quarter, r = _quarter_turns(xp, absolute(xp, v))
    sine, cosine = _sine_and_cosine(r)
    sign = copy_sign(xp, v * 0.0 + 1.0, v)
    return _turned(xp, quarter, sine, cosine) * sign


def cos(xp: Arithmetic, v: Vec) -> Vec:
    """Accuracy as ``sin``."""
    quarter, r = _quarter_turns(xp, absolute(xp, v))
    sine, cosine = _sine_and_cosine(r)
    return _turned(xp, quarter, cosine, -sine)


def _log2_in_two_parts(xp: Arithmetic, a: Vec) -> tuple[Vec, Vec]:
    """log2 of finite a > 0 as a 12-bit number and a correction, 2**-36 together.

    The scheme of fdlibm's ``e_powf.c``: ``log(m) = 2/3 * s * (3 + s**2 + s**4 R(s**2))`` with
    ``s = (m - 1) / (m + 1)``, where every product that matters is of two 12-bit numbers.
    """
    exponent, m = split_exponent(xp, a)
    f, d = m - 1.0, m + 1.0
    s = f / d
    s_high, d_high = high_part(xp, s), high_part(xp, d)
    d_low = m - (d_high - 1.0)
    s_low = (f - s_high * d_high - s_high * d_low) / d
    square = s * s
    square_high = s_high * s_high
    rest = square * square * polynomial(square, _ATANH) + s_low * (s_high + s)
    t_high = high_part(xp, square_high + 3.0 + rest)
    t_low = rest - (t_high - 3.0 - square_high)
    product = s_high * t_high
    correction = s_low * t_high + t_low * s
    p_high = high_part(xp, product + correction)
    p_low = correction - (p_high - product)
    z_high = p_high * _TWO_THIRDS_LOG2_E_HIGH
    z_low = p_high * _TWO_THIRDS_LOG2_E_LOW + p_low * _TWO_THIRDS_LOG2_E
    high = high_part(xp, z_high + z_low + exponent)
    return high, z_low - (high - exponent - z_high)


_TWO_THIRDS_LOG2_E = 0.9617966939259756
_TWO_THIRDS_LOG2_E_HIGH = 0.9619140625
_TWO_THIRDS_LOG2_E_LOW = _TWO_THIRDS_LOG2_E - _TWO_THIRDS_LOG2_E_HIGH


def _positive_power(xp: Arithmetic, a: Vec, y: Vec) -> Vec:
    """``a**y`` for finite a > 0 and |y| <= 2**40."""
    high, low = _log2_in_two_parts(xp, a)
    y_high = high_part(xp, y)
    p_high = y_high * high
    p_low = (y - y_high) * high + y * low
    shifted = clip(xp, p_high + p_low, -200.0, 200.0) + ROUNDING_MAGIC
    n = xp.as_int(shifted) - ROUNDING_MAGIC_BITS
    r = clip(xp, p_high - (shifted - ROUNDING_MAGIC) + p_low, -1.0, 1.0)
    return scale_by_power(xp, exponential_minus_one_core(r * LN2) + 1.0, n)


def power(xp: Arithmetic, x: Vec, y: Vec) -> Vec:
    """``x**y`` with the special cases of IEEE 754 ``pow``; 1.1 ulp, denormal results included.

    ``y`` equal to 1, 2, 3, -1 and 0.5 gives ``x``, ``x * x``, ``x * x * x``, ``1 / x`` and
    ``sqrt(x)``, so that a constant exponent costs no more than it should.
    """
    a = absolute(xp, x)
    bounded = clip(xp, y, -(2.0**40), 2.0**40)
    result = _positive_power(xp, a, bounded)
    limit = xp.select_less(y, 0.0, 1.0 / a, a + bounded * 0.0)
    result = xp.select_less(a, SMALLEST, limit, xp.select_less(a, INF, result, limit))
    result = _with_sign(xp, x, bounded, result)
    for exponent, value in _exact_powers(xp, x):
        result = _where_equal(xp, y, exponent, value, result)
    return _where_equal(xp, x, 1.0, 1.0, _where_equal(xp, y, 0.0, 1.0, result))


def _exact_powers(xp: Arithmetic, x: Vec) -> Sequence[tuple[float, Vec]]:
    infinite_root = xp.select_less(-x, INF, NAN, INF)
    root = xp.select_less(x, 0.0, infinite_root, xp.sqrt(x) + 0.0)
    return ((1.0, x), (2.0, x * x), (3.0, x * x * x), (-1.0, 1.0 / x), (0.5, root))


def _where_equal(xp: Arithmetic, v: Vec, value: float, then: Vec | float, other: Vec) -> Vec:
    """``then if v == value else other``."""
    return xp.select_less(absolute(xp, v - value), SMALLEST, then, other)


def _with_sign(xp: Arithmetic, x: Vec, y: Vec, magnitude: Vec) -> Vec:
    """The sign of an odd power of a negative x; NaN for a fractional power of one."""
    half = y * 0.5
    fraction = absolute(xp, y - round_half_even(xp, y))
    half_fraction = absolute(xp, half - round_half_even(xp, half))
    odd = xp.select_less(fraction, SMALLEST, half_fraction + half_fraction, 0.0)
    signed = magnitude * (xp.to_float(xp.as_int(x) >> 31) * odd * 2.0 + 1.0)
    fractional = xp.select_less(fraction, SMALLEST, signed, NAN)
    return xp.select_less(x, 0.0, xp.select_less(-x, INF, fractional, signed), signed)
