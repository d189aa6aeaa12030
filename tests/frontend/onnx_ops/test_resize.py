"""Resize: positions, filters and sizes, against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.frontend.single_op import check_same, interpreted, make_model, node, normal
from uqfc.errors import ModelError, UnsupportedError
from uqfc.frontend import import_onnx
from uqfc.frontend.onnx_ops.interpolation import Axis, Sampling, cubic, nearest, taps
from uqfc.frontend.onnx_ops.resize import TRANSFORMATIONS

MODES = ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"]


def resize(shape: tuple[int, ...], sizes: list[int], **attributes: Any) -> Any:
    op = node("Resize", ["x", "", "", "s"], ["y"], **attributes)
    return make_model([op], {"x": shape}, ["y"], {"s": np.array(sizes, np.int64)})


@settings(max_examples=60)
@given(
    st.tuples(*[st.integers(2, 7)] * 2),
    st.tuples(*[st.integers(2, 9)] * 2),
    st.sampled_from(MODES),
    st.sampled_from(["linear", "cubic"]),
    st.booleans(),
)
def test_filters(
    size: tuple[int, int], wanted: tuple[int, int], mode: str, filtering: str, outside: bool
) -> None:
    assume(filtering == "cubic" or not outside)
    model = resize(
        (1, 2, *size),
        [1, 2, *wanted],
        mode=filtering,
        coordinate_transformation_mode=mode,
        exclude_outside=outside,
    )
    # ONNX Runtime computes coordinates in float32: up to 20 * 2**-24 = 1.2e-6 of a pixel off, at
    # slopes of a few units a pixel for each of the axes.
    check_same(model, {"x": normal(0, 1, 2, *size)}, rtol=1e-4, atol=1e-5)


@settings(max_examples=60)
@given(
    st.tuples(*[st.integers(2, 7)] * 2),
    st.tuples(*[st.sampled_from([0.5, 1.0, 1.5, 2.0, 3.0])] * 2),
    st.sampled_from(MODES),
    st.sampled_from(["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"]),
)
def test_nearest(
    size: tuple[int, int], scales: tuple[float, float], mode: str, rounding: str
) -> None:
    """With scales for which positions are exact, so that ties do not depend on rounding."""
    assume(mode != "align_corners" and 1.5 not in scales and 3.0 not in scales)
    op = node(
        "Resize",
        ["x", "", "s"],
        ["y"],
        mode="nearest",
        nearest_mode=rounding,
        coordinate_transformation_mode=mode,
    )
    factors = np.array([1, 1, *scales], np.float32)
    model = make_model([op], {"x": (1, 2, *size)}, ["y"], {"s": factors})
    check_same(model, {"x": normal(0, 1, 2, *size)})


def test_upsample_of_opset_9() -> None:
    op = node("Upsample", ["x", "s"], ["y"], mode="nearest")
    scales = np.array([1, 1, 2, 3], np.float32)
    x = normal(0, 1, 2, 3, 4)
    model = make_model([op], {"x": x.shape}, ["y"], {"s": scales}, opset=9)
    np.testing.assert_array_equal(interpreted(model, {"x": x})[0], x.repeat(2, 2).repeat(3, 3))


@pytest.mark.parametrize("policy", ["not_larger", "not_smaller"])
def test_keeping_the_aspect_ratio(policy: str) -> None:
    model = resize((1, 1, 4, 6), [7, 8], axes=[2, 3], keep_aspect_ratio_policy=policy)
    wanted = (1, 1, 5, 8) if policy == "not_larger" else (1, 1, 7, 11)
    assert interpreted(model, {"x": normal(0, 1, 1, 4, 6)})[0].shape == wanted


def test_antialias_is_unsupported() -> None:
    model = resize((1, 1, 4, 6), [1, 1, 2, 3], mode="linear", antialias=1)
    with pytest.raises(UnsupportedError, match="attribute 'antialias' is 1, supported: 0"):
        import_onnx(model)


def test_sizes_that_do_not_fit() -> None:
    with pytest.raises(ModelError, match="do not fit 4 axes"):
        import_onnx(resize((1, 1, 4, 6), [2, 3]))


@given(
    st.integers(1, 9),
    st.integers(1, 12),
    st.sampled_from(TRANSFORMATIONS),
    st.sampled_from(["linear", "cubic"]),
)
def test_weights_sum_to_one_and_indices_are_inside(
    size: int, length: int, transformation: str, mode: str
) -> None:
    axis = Axis(size, length, length / size)
    sampling = Sampling(mode, transformation, "floor")
    indices, weights = taps(axis, sampling)
    assert indices.shape == weights.shape == (length, 2 if mode == "linear" else 4)
    assert indices.min() >= 0
    assert indices.max() < size
    # At most four float32 weights below 2, rounded by 2**-24 each: 4.8e-7.
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-6)
    assert nearest(axis, sampling).max() < size


@given(st.floats(0, 1), st.floats(-1, -0.25))
def test_a_cubic_filter_reproduces_straight_lines_at_its_nodes(t: float, a: float) -> None:
    weights = cubic(np.array([0.0, t]), a)
    # Cubic polynomials in float64 with coefficients below 10: some 10 * 4 * 2**-53 = 4e-15.
    np.testing.assert_allclose(weights[0], [0, 1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-12)


@given(st.integers(1, 8), st.sampled_from(TRANSFORMATIONS))
def test_the_same_size_is_the_identity(size: int, transformation: str) -> None:
    assume(transformation != "tf_half_pixel_for_nn")
    axis = Axis(size, size, 1.0)
    sampling = Sampling("nearest", transformation, "round_prefer_floor")
    assert nearest(axis, sampling).tolist() == list(range(size))
