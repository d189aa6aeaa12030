"""Convolutions and products against loops over every output and every tap."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uqfc.dialects.nn.layers import conv2d_shape
from uqfc.dialects.tensors import Array
from uqfc.interpreter.products import (
    Window,
    conv2d_patches,
    float_conv2d,
    float_matmul,
    integer_conv2d,
    integer_linear,
    integer_matmul,
    strided_product,
)
from uqfc.numerics import LANES, strided_matmul, tree_sum


@dataclass(frozen=True)
class ConvCase:
    x: Array
    weight: Array
    window: Window
    pad_value: int

    @property
    def shape(self) -> tuple[int, ...]:
        w = self.window
        return conv2d_shape(
            self.x.shape, self.weight.shape, w.strides, w.padding, w.dilations, w.groups
        )


@st.composite
def conv_cases(draw: st.DrawFn) -> ConvCase:
    """Channels straddle the sixteen lanes; groups are one, some, or one a channel."""
    small = st.integers(1, 3)
    groups = draw(st.sampled_from([1, 1, 2, 5]))
    inside, outside = draw(st.sampled_from([(1, 1), (1, 2), (2, 1), (7, 3), (17, 2)]))
    kernel, dilations = (draw(small), draw(small)), (draw(small), draw(small))
    padding = tuple(draw(st.integers(0, 2)) for _ in range(4))
    height = max(1, (kernel[0] - 1) * dilations[0] + 1 - padding[0] - padding[2]) + draw(small)
    width = max(1, (kernel[1] - 1) * dilations[1] + 1 - padding[1] - padding[3]) + draw(small)
    random = np.random.default_rng(draw(st.integers(0, 999)))
    return ConvCase(
        random.integers(0, 256, (draw(st.integers(1, 2)), height, width, inside * groups)),
        random.integers(-128, 128, (outside * groups, *kernel, inside)),
        Window((draw(small), draw(small)), padding, dilations, groups),
        draw(st.integers(0, 255)),
    )


def terms(case: ConvCase, output: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """(input or padding, weight) of one output, in the order (row, column, channel)."""
    image, row, column, channel = output
    w = case.window
    outputs, height, width, channels = case.weight.shape
    first = channel // (outputs // w.groups) * channels
    for i in range(height):
        for j in range(width):
            y = row * w.strides[0] + i * w.dilations[0] - w.padding[0]
            x = column * w.strides[1] + j * w.dilations[1] - w.padding[1]
            inside = 0 <= y < case.x.shape[1] and 0 <= x < case.x.shape[2]
            for c in range(channels):
                value = case.x[image, y, x, first + c] if inside else case.pad_value
                yield int(value), int(case.weight[channel, i, j, c])


@given(conv_cases())
def test_integer_convolution_is_the_sum_of_its_terms(case: ConvCase) -> None:
    w = case.window
    result = integer_conv2d(
        case.x, case.weight, w.strides, w.padding, w.dilations, w.groups, case.pad_value
    )
    assert result.shape == case.shape
    for output in np.ndindex(*case.shape):
        assert result[output] == sum(a * b for a, b in terms(case, output))


@given(conv_cases())
def test_float_convolution_adds_in_lanes(case: ConvCase) -> None:
    """Term ``k`` is added to lane ``k % 16``; the lanes are added as a tree."""
    case = ConvCase(case.x, case.weight, case.window, 0)
    scale = np.float32(0.1)
    x, weight = case.x.astype(np.float32) * scale, case.weight.astype(np.float32) * scale
    result = float_conv2d(x, weight, case.window, strided_product)
    assert result.shape == case.shape
    for output in list(np.ndindex(*case.shape))[::7]:
        lanes = np.zeros(LANES, np.float32)
        for k, (a, b) in enumerate(terms(case, output)):
            lanes[k % LANES] += np.float32(a) * scale * (np.float32(b) * scale)
        assert result[output] == tree_sum(lanes)


@pytest.mark.parametrize("k", [1, 15, 16, 17, 31, 32, 33, 129])
@pytest.mark.parametrize(("m", "n"), [(1, 1), (3, 5), (700, 33)])
def test_strided_product_is_the_definition(m: int, k: int, n: int) -> None:
    random = np.random.default_rng(k)
    a = random.standard_normal((m, k), dtype=np.float32)
    b = random.standard_normal((k, n), dtype=np.float32)
    assert np.array_equal(strided_product(a, b), strided_matmul(a, b))


@given(st.integers(0, 999), st.sampled_from([7, 2**11, 2**20]))
def test_integer_matmul_is_exact_in_either_float_format(seed: int, limit: int) -> None:
    random = np.random.default_rng(seed)
    a = random.integers(-limit, limit, (3, 50))
    b = random.integers(-limit, limit, (50, 4))
    assert np.array_equal(integer_matmul(a, b), a @ b)


def test_integer_matmul_refuses_sums_that_float64_cannot_hold() -> None:
    a, b = np.full((1, 4), 2**30), np.full((4, 1), 2**30)
    with pytest.raises(OverflowError, match="may exceed"):
        integer_matmul(a, b)


def test_integer_matmul_of_nothing_is_zero() -> None:
    assert np.array_equal(integer_matmul(np.zeros((2, 0)), np.zeros((0, 3))), np.zeros((2, 3)))


def test_integer_linear_keeps_leading_dimensions() -> None:
    x, w = np.arange(24).reshape(2, 3, 4), np.arange(20).reshape(5, 4) - 9
    assert np.array_equal(integer_linear(x, w), x @ w.T)


def test_patches_are_a_view() -> None:
    x = np.zeros((1, 5, 5, 2), np.uint8)
    assert np.shares_memory(conv2d_patches(x, (3, 3), Window()), x)


def test_matmul_broadcasts_batches() -> None:
    random = np.random.default_rng(0)
    a = random.standard_normal((2, 1, 3, 20), dtype=np.float32)
    b = random.standard_normal((5, 20, 4), dtype=np.float32)
    result = float_matmul(a, b, strided_product)
    assert result.shape == (2, 5, 3, 4)
    assert np.array_equal(result[1, 4], strided_matmul(a[1, 0], b[4]))
