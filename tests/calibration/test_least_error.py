from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from uqfc.calibration import affine_parameters, quantize_weights
from uqfc.calibration.least_error import least_error_ranges
from uqfc.numerics import F32, dequantize, quantize

LEVELS = st.sampled_from([(-8, 7), (0, 15), (-1, 1), (-128, 127), (0, 65535)])


def searched(row: F32, qmin: int, qmax: int, symmetric: bool) -> tuple[float, float]:
    """Every candidate's error in float64, one after the other."""
    low, high = float(row.min(initial=0.0)), float(row.max(initial=0.0))
    least = np.inf
    for side in [(True, True)] if symmetric else [(True, True), (False, True), (True, False)]:
        full = low, high
        for ratio in np.linspace(1.0, 0.3, 36):
            ends = [end * (ratio if moves else 1.0) for end, moves in zip(full, side, strict=True)]
            scale, zero_point = affine_parameters(*ends, qmin, qmax, symmetric=symmetric)
            q = quantize(row, scale, zero_point, qmin, qmax)
            difference = np.subtract(dequantize(q, scale, zero_point), row, dtype=np.float64)
            error = float(np.square(difference).sum())
            if error < least:
                least, (low, high) = error, ends
    return low, high


def check(rows: F32, levels: tuple[int, int], symmetric: bool) -> None:
    low, high = rows.min(axis=1, initial=0.0), rows.max(axis=1, initial=0.0)
    found = least_error_ranges(rows, low, high, *levels, symmetric=symmetric)
    expected = [searched(row, *levels, symmetric) for row in rows]
    assert np.array_equal(np.stack(found, axis=1), np.array(expected))


@given(
    hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 4), st.integers(1, 9)),
        elements=st.floats(-1e6, 1e6, width=32),
    ),
    LEVELS,
    st.booleans(),
)
def test_no_candidate_is_missed(rows: F32, levels: tuple[int, int], symmetric: bool) -> None:
    check(rows, levels, symmetric)


@given(st.integers(0, 2**32), LEVELS, st.booleans(), st.sampled_from([1, 5, 33, 300]))
def test_no_candidate_of_likely_weights_is_missed(
    seed: int, levels: tuple[int, int], symmetric: bool, length: int
) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((3, length)) ** rng.integers(1, 4) * 10.0 ** rng.integers(-30, 30)
    check(rows.astype(np.float32), levels, symmetric)


def test_long_rows() -> None:
    rows = np.random.default_rng(0).standard_normal((2, 20_000)).astype(np.float32)
    check(rows, (0, 15), symmetric=False)


def test_rows_of_zeros_keep_their_range() -> None:
    found = quantize_weights(np.zeros((2, 3), np.float32), -8, 7, method="mse")
    assert found.scale.tolist() == [1, 1]
