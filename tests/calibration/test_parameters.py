from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from uqfc.calibration import activation_parameters, affine_parameters
from uqfc.calibration.parameters import SMALLEST_SCALE, QuantizationParameters
from uqfc.errors import CalibrationError
from uqfc.numerics import dequantize, quantize

FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)
LEVELS = st.sampled_from(
    [(0, 255), (-128, 127), (-127, 127), (0, 15), (-8, 7), (-1, 1), (0, 1), (0, 127), (-3, 90)]
)


def on_grid(x: float, p: QuantizationParameters) -> float:
    scale, zero_point = np.asarray(p.scale, np.float32), np.asarray(p.zero_point, np.int32)
    return float(
        dequantize(
            quantize(np.asarray(x, np.float32), scale, zero_point, p.qmin, p.qmax),
            scale,
            zero_point,
        )
    )


@given(FINITE, FINITE, LEVELS, st.booleans())
def test_parameters_are_usable_and_zero_is_exact(
    a: float, b: float, levels: tuple[int, int], symmetric: bool
) -> None:
    p = activation_parameters(min(a, b), max(a, b), *levels, symmetric=symmetric)
    assert p.qmin <= p.zero_point <= p.qmax
    assert p.scale >= SMALLEST_SCALE
    assert np.isfinite(np.float32(p.scale))
    assert float(np.float32(p.scale)) == p.scale
    assert on_grid(0.0, p) == 0.0


@given(FINITE, FINITE, LEVELS)
def test_an_asymmetric_range_is_covered_but_for_half_a_step(
    a: float, b: float, levels: tuple[int, int]
) -> None:
    low, high = min(a, b, 0.0), max(a, b, 0.0)
    assume(high - low < 3e38)  # else the scale of two levels is not a float32
    p = activation_parameters(min(a, b), max(a, b), *levels)
    slack = p.scale * (0.5 + 2.0**-14)
    assert p.range[0] <= low + slack
    assert high - slack <= p.range[1]


@given(FINITE, FINITE, LEVELS)
def test_a_symmetric_range_is_covered(a: float, b: float, levels: tuple[int, int]) -> None:
    assume(max(abs(a), abs(b)) < 3e38)
    assume(levels != (0, 1))  # no level above the zero point
    p = activation_parameters(min(a, b), max(a, b), *levels, symmetric=True)
    assert p.zero_point == (p.qmin + p.qmax + 1) // 2
    rounding = 1 + 2.0**-23
    assert p.range[0] * rounding <= min(a, b, 0.0)
    assert max(a, b, 0.0) <= p.range[1] * rounding


@given(st.integers(0, 255), st.floats(SMALLEST_SCALE, 2.0**100, width=32))
def test_the_range_of_parameters_gives_them_back(zero_point: int, scale: float) -> None:
    p = QuantizationParameters(scale, zero_point, 0, 255)
    assert activation_parameters(*p.range) == p


@given(FINITE, FINITE, FINITE, FINITE, LEVELS)
def test_a_wider_range_never_has_a_smaller_scale(
    a: float, b: float, c: float, d: float, levels: tuple[int, int]
) -> None:
    low, high, *_ = sorted((a, b, c, d))
    outer = sorted((a, b, c, d))
    inner_low, inner_high = outer[1], outer[2]
    assume((inner_low, inner_high) != (0.0, 0.0))  # scale 1 by definition
    assume(min(inner_low, 0.0) != max(inner_high, 0.0))
    for symmetric in (False, True):
        inner = activation_parameters(inner_low, inner_high, *levels, symmetric=symmetric)
        wide = activation_parameters(outer[0], outer[3], *levels, symmetric=symmetric)
        assert inner.scale <= wide.scale
    assert low <= high


def test_known_values() -> None:
    assert activation_parameters(0, 0) == QuantizationParameters(1.0, 0, 0, 255)
    assert activation_parameters(-0.0, 0.0, -128, 127) == QuantizationParameters(
        1.0, -128, -128, 127
    )
    assert activation_parameters(0, 0, symmetric=True) == QuantizationParameters(1.0, 128, 0, 255)
    assert activation_parameters(-1, 1.5, 0, 5) == QuantizationParameters(0.5, 2, 0, 5)
    assert activation_parameters(5, 25.5) == QuantizationParameters(
        float(np.asarray(0.1, np.float32)), 0, 0, 255
    )
    assert activation_parameters(-2, 1, -8, 7, symmetric=True).scale == 0.25
    assert activation_parameters(0, 1e-44) == QuantizationParameters(SMALLEST_SCALE, 0, 0, 255)


def test_parameters_are_elementwise() -> None:
    scale, zero_point = affine_parameters([0.0, -1.0], [2.0, 3.0], 0, 4)
    assert scale.dtype == np.float32
    assert zero_point.dtype == np.int32
    assert scale.tolist() == [0.5, 1.0]
    assert zero_point.tolist() == [0, 1]


def test_bad_ranges_are_refused() -> None:
    with pytest.raises(CalibrationError, match="qmin 3 is not below qmax 3"):
        activation_parameters(0, 1, 3, 3)
    with pytest.raises(CalibrationError, match="not finite"):
        activation_parameters(0, float("inf"))
