"""exp, log and what is built on them, in float32 over an ``Arithmetic``.

The argument reductions are Cody and Waite's; the polynomials are minimax fits (Lawson's weighted
least squares in double precision, coefficients rounded to float32 one by one). The errors given
are the largest that were measured over float32, in units in the last place (ulp) of the result.
Where a product has a denormal factor (SiLU and Mish below -80) an absolute error of 2**-142 comes
on top.
"""

from __future__ import annotations

from collections.abc import Sequence

from uqfc.numerics import Arithmetic, Vec

LOG2_E = 1.4426950408889634
LN2 = 0.6931471805599453
LN2_HIGH = 0.693359375
"""Nine bits: its product with an exponent is exact."""
LN2_LOW = LN2 - LN2_HIGH
ROUNDING_MAGIC = 12582912.0
"""1.5 * 2**23: ``v + magic`` has ``rne(v)`` in its low bits for |v| <= 2**22."""
ROUNDING_MAGIC_BITS = 0x4B400000
SQRT_HALF_BITS = 0x3F3504F3
MANTISSA = 0x7FFFFF
MAGNITUDE = 0x7FFFFFFF
SIGN_BIT = -(2**31)
INF = float("inf")
NAN = float("nan")
SMALLEST = 2.0**-149
SMALLEST_NORMAL = 2.0**-126

_EXPM1 = (0.5, 0.16666667, 0.04166648, 0.008333208, 0.0013933567, 0.00019944269)
"""``(e**r - 1 - r) / r**2`` for |r| <= ln(2) / 2, error 2**-31 of ``e**r - 1``."""

_LOG = (
    0.33333313,
    -0.2500001,
    0.20002073,
    -0.16667992,
    0.14220311,
    -0.12406115,
    0.11883875,
    -0.11671166,
    0.06749835,
)
"""``(log(1 + f) - f + f**2 / 2) / f**3`` for sqrt(1/2) <= 1 + f <= sqrt(2), error 2**-30 of log."""


def polynomial(v: Vec, coefficients: Sequence[float]) -> Vec:
    """Horner's scheme; ``coefficients`` from the constant term up."""
    result = v * coefficients[-1] + coefficients[-2]
    for c in reversed(coefficients[:-2]):
        result = result * v + c
    return result


def absolute(xp: Arithmetic, v: Vec) -> Vec:
    return xp.as_float(xp.as_int(v) & MAGNITUDE)


def copy_sign(xp: Arithmetic, magnitude: Vec, sign: Vec) -> Vec:
    """``magnitude`` (not negative) with the sign of ``sign``."""
    return xp.as_float(xp.as_int(magnitude) | (xp.as_int(sign) & SIGN_BIT))


def power_of_two(xp: Arithmetic, n: Vec) -> Vec:
    """``2**n`` for int32 -126 <= n <= 127."""
    return xp.as_float((n + 127) << 23)


def scale_by_power(xp: Arithmetic, v: Vec, n: Vec) -> Vec:
    """``v * 2**n`` for int32 |n| <= 250 in two steps: overflow and denormals come out right."""
    half = n >> 1
    return v * power_of_two(xp, half) * power_of_two(xp, n - half)


def reduce_exponential(xp: Arithmetic, v: Vec, tail: Vec | float = 0.0) -> tuple[Vec, Vec]:
    """``(n, e**r - 1)`` with ``v + tail = n * ln(2) + r``; n is int32, |r| <= ln(2) / 2."""
    shifted = (v + tail) * LOG2_E + ROUNDING_MAGIC
    n = shifted - ROUNDING_MAGIC
    r = v - n * LN2_HIGH - n * LN2_LOW + tail
    return xp.as_int(shifted) - ROUNDING_MAGIC_BITS, exponential_minus_one_core(r)


def exponential_minus_one_core(r: Vec) -> Vec:
    """``e**r - 1`` for |r| <= ln(2) / 2."""
    return r + r * r * polynomial(r, _EXPM1)


def exp(xp: Arithmetic, v: Vec) -> Vec:
    """0.95 ulp, denormal results included; 0 below -104, inf above 88.73."""
    n, e = reduce_exponential(xp, xp.minimum(xp.maximum(v, -104.0), 89.0))
    return scale_by_power(xp, e + 1.0, n)


def exp_of_sum(xp: Arithmetic, v: Vec, tail: Vec) -> Vec:
    """``e**(v + tail)`` for v <= 0 and a small ``tail`` that a float32 sum would lose; 1 ulp."""
    n, e = reduce_exponential(xp, xp.maximum(v, -104.0), tail)
    return scale_by_power(xp, e + 1.0, n)


def expm1_of_negative(xp: Arithmetic, v: Vec) -> Vec:
    """``e**v - 1`` for v <= 0; 1 ulp. What it gives for v > 0 is finite or NaN only for NaN."""
    n, e = reduce_exponential(xp, xp.minimum(xp.maximum(v, -80.0), 0.0))
    scale = power_of_two(xp, n)
    return scale * e + (scale - 1.0)


def split_exponent(xp: Arithmetic, v: Vec) -> tuple[Vec, Vec]:
    """``(e, m)`` floats with ``v = m * 2**e`` and sqrt(1/2) <= m < sqrt(2), for finite v > 0."""
    normal = xp.select_less(v, SMALLEST_NORMAL, v * 2.0**23, v)
    bias = xp.select_less(v, SMALLEST_NORMAL, -23.0, 0.0)
    bits = xp.as_int(normal) - SQRT_HALF_BITS
    exponent = xp.to_float(bits >> 23) + bias
    return exponent, xp.as_float((bits & MANTISSA) + SQRT_HALF_BITS)


def log(xp: Arithmetic, v: Vec) -> Vec:
    """0.8 ulp; -inf at 0, NaN below."""
    exponent, m = split_exponent(xp, v)
    f = m - 1.0
    square = f * f
    y = f * square * polynomial(f, _LOG)
    y = y + exponent * LN2_LOW - square * 0.5
    result = f + y + exponent * LN2_HIGH
    result = xp.select_less(v, INF, result, v)
    return xp.select_less(v, SMALLEST, xp.select_less(v, 0.0, NAN, -INF), result)


def log1p_of_fraction(xp: Arithmetic, z: Vec) -> Vec:
    """``log(1 + z)`` for 0 <= z <= 1; 1.5 ulp."""
    u = z + 1.0
    return log(xp, u) + (z - (u - 1.0)) / u


def sigmoid(xp: Arithmetic, v: Vec) -> Vec:
    """2.3 ulp on both sides: ``z / (1 + z)`` or ``1 / (1 + z)`` with ``z = e**-|v|``."""
    z = exp(xp, -absolute(xp, v))
    return xp.select_less(v, 0.0, z, 1.0) / (z + 1.0)


def silu(xp: Arithmetic, v: Vec) -> Vec:
    """``v * sigmoid(v)``; 3 ulp, -0.0 at -inf."""
    return xp.maximum(v, -120.0) * sigmoid(xp, v)


def tanh(xp: Arithmetic, v: Vec) -> Vec:
    """``-t / (2 + t)`` with ``t = e**(-2|v|) - 1``; 2.6 ulp."""
    t = expm1_of_negative(xp, absolute(xp, v) * -2.0)
    return copy_sign(xp, absolute(xp, t / (t + 2.0)), v)


def softplus(xp: Arithmetic, v: Vec) -> Vec:
    """``max(v, 0) + log(1 + e**-|v|)``; 2 ulp."""
    z = exp(xp, -absolute(xp, v))
    return xp.maximum(v, 0.0) + log1p_of_fraction(xp, z)


def mish(xp: Arithmetic, v: Vec) -> Vec:
    """``v * tanh(softplus(v)) = v * n / (n + 2)`` with ``n = e**v * (e**v + 2)``; 4.2 ulp."""
    e = exp(xp, xp.minimum(v, 20.0))
    n = e * (e + 2.0)
    return xp.maximum(v, -120.0) * (n / (n + 2.0))


def elu(xp: Arithmetic, v: Vec, alpha: float) -> Vec:
    """``alpha * (e**v - 1)`` below 0; 2 ulp."""
    return xp.select_less(v, 0.0, expm1_of_negative(xp, v) * alpha, v)


def celu(xp: Arithmetic, v: Vec, alpha: float) -> Vec:
    """``alpha * (e**(v / alpha) - 1)`` below 0 (alpha > 0); 2.1 ulp."""
    return xp.select_less(v, 0.0, expm1_of_negative(xp, v / alpha) * alpha, v)


SELU_SCALE = 1.0507009873554805
SELU_ALPHA = 1.6732632423543772


def selu(xp: Arithmetic, v: Vec) -> Vec:
    """1.8 ulp."""
    below = expm1_of_negative(xp, v) * (SELU_SCALE * SELU_ALPHA)
    return xp.select_less(v, 0.0, below, v * SELU_SCALE)
