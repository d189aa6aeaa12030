from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from uqfc.calibration import QuantizedWeights, binary_weights, quantize_weights, ternary_weights
from uqfc.calibration.few_levels import signs
from uqfc.errors import CalibrationError
from uqfc.numerics import F32

MODERATE = st.floats(-1e6, 1e6, width=32)
WEIGHTS = hnp.arrays(
    np.float32, hnp.array_shapes(min_dims=2, max_dims=4, max_side=5), elements=MODERATE
)
ROWS = hnp.arrays(np.float32, st.integers(1, 6), elements=st.floats(-100, 100, width=32))
AXES = st.sampled_from([None, 0, -1])
QUANTIZERS = (ternary_weights, binary_weights)


def squared_error(w: F32, levels: F32, scale: float) -> float:
    return float(np.square(levels.astype(np.float64) * scale - w).sum())


@given(WEIGHTS, AXES, st.sampled_from(QUANTIZERS))
def test_levels_and_shapes(w: F32, axis: int | None, quantizer: object) -> None:
    assert quantizer in QUANTIZERS
    found: QuantizedWeights = (ternary_weights if quantizer is ternary_weights else binary_weights)(
        w, axis
    )
    q, scale, zero_point = found
    assert (q.dtype, scale.dtype, zero_point.dtype) == (np.int32, np.float32, np.int32)
    assert scale.shape == zero_point.shape == (() if axis is None else (w.shape[axis],))
    assert (scale > 0).all()
    assert not zero_point.any()
    assert set(np.unique(q)) <= ({-1, 0, 1} if quantizer is ternary_weights else {-1, 1})


def least_error(w: F32, levels: tuple[int, ...]) -> float:
    """Of all assignments of levels, each with the scale that is best for it."""
    least = float("inf")
    for assignment in product(levels, repeat=len(w)):
        q = np.asarray(assignment, np.float64)
        scale = max(0.0, float(q @ w) / max(float(q @ q), 1.0))
        least = min(least, squared_error(w, q.astype(np.float32), scale))
    return least


@given(ROWS, st.sampled_from([(-1, 0, 1), (-1, 1)]))
def test_no_other_levels_or_scale_have_a_smaller_error(w: F32, levels: tuple[int, ...]) -> None:
    """The scale is rounded to float32: 2**-24 of it moves the error by less than 2**-20 of w²."""
    quantizer = ternary_weights if 0 in levels else binary_weights
    q, scale, _ = quantizer(w.reshape(1, -1))
    error = squared_error(w, q[0].astype(np.float32), float(scale[0]))
    if not w.any():
        return  # scale 1: binary weights have no level for zero
    assert error <= least_error(w, levels) + float(np.square(w, dtype=np.float64).sum()) * 2.0**-20


@given(ROWS)
def test_ternary_is_never_worse_than_a_searched_range(w: F32) -> None:
    row = w.reshape(1, -1)
    found, searched = ternary_weights(row), quantize_weights(row, -1, 1, method="mse")
    errors = [
        squared_error(row, x.q.astype(np.float32), float(x.scale[0])) for x in (found, searched)
    ]
    assert errors[0] <= errors[1] + float(np.square(w, dtype=np.float64).sum()) * 2.0**-20


def test_zero_has_the_positive_sign() -> None:
    assert signs(np.array([-0.0, 0.0, -1e-45, 2], np.float32)).tolist() == [1, 1, -1, 1]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(value: float) -> None:
    with pytest.raises(CalibrationError, match="NaN or infinite"):
        ternary_weights(np.array([[1, value]], np.float32))
