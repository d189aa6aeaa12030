"""Means with their confidence, and how stable a ranking is. NumPy only."""

from __future__ import annotations

import numpy as np

from uqfc.numerics import F64

NORMAL = 1.959963984540054
"""Quantile 0.975 of the normal distribution."""
FEW = (12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646)
"""Quantiles 0.975 of Student's t with 1 to 7 degrees of freedom."""


def t_quantile(freedom: int) -> float:
    """Quantile 0.975 of Student's t (Abramowitz and Stegun, 26.7.5): within 2e-4 of it."""
    if freedom <= len(FEW):
        return FEW[freedom - 1]
    z, v = NORMAL, freedom
    first = (z**3 + z) / (4 * v)
    second = (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)
    return z + first + second + third


def mean_and_error(values: F64) -> tuple[float, float]:
    """The mean of independent values [n], n ≥ 2, and half its 95 % confidence interval."""
    deviation = float(values.std(ddof=1))
    return float(values.mean()), t_quantile(len(values) - 1) * deviation / len(values) ** 0.5


def kendall(a: F64, b: F64) -> float:
    """Kendall's τ-b of two rankings [n] (M. G. Kendall, Biometrika 33, 1945).

    1 where neither distinguishes anything.
    """
    signs_a, signs_b = (np.sign(x[:, None] - x[None, :]) for x in (a, b))
    total = (signs_a * signs_b).sum()
    scale = np.sqrt(np.square(signs_a).sum() * np.square(signs_b).sum())
    if scale == 0:
        return 1.0 if np.array_equal(signs_a, signs_b) else 0.0
    return float(total / scale)
