"""Pools give what the interpreter gives, whatever lies outside the image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.codegen.harness import SEEDS, end_or_any
from tests.codegen.tensor_harness import (
    SIZES,
    check,
    every_isa,
    operand,
    random_array,
    some_examples,
)
from uqfc.codegen.isa import Isa
from uqfc.codegen.kernels.pool import AvgPoolKernel, MaxPoolKernel
from uqfc.codegen.kernels.quantized_pool import GlobalAvgPoolKernel, QuantizedAvgPoolKernel
from uqfc.codegen.kernels.tensor import Dtype
from uqfc.codegen.kernels.window import WindowDims
from uqfc.dialects import nn, qnn
from uqfc.dialects.tensors import window_shape


@dataclass(frozen=True)
class Pool:
    """A window as the ops and as the kernels take it."""

    dims: WindowDims
    padding: tuple[int, int, int, int]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        d = self.dims
        return d.batch, d.height, d.width, d.channels

    @property
    def window(self) -> tuple[tuple[int, ...], ...]:
        d = self.dims
        return d.kernel, d.stride, self.padding, d.dilation


@st.composite
def pools(draw: st.DrawFn) -> Pool:
    """Padding may exceed the kernel: then windows without any element inside exist."""
    pair = st.tuples(st.integers(1, 3), st.integers(1, 3))
    kernel, stride, dilation = draw(pair), draw(pair), draw(pair)
    amount = st.integers(0, 4)
    padding = (draw(amount), draw(amount), draw(amount), draw(amount))
    least = [
        max(1, (kernel[i] - 1) * dilation[i] + 1 - padding[i] - padding[i + 2]) for i in range(2)
    ]
    height, width = (n + draw(st.integers(0, 6)) for n in least)
    out = window_shape((height, width), kernel, stride, padding, dilation)
    batch, channels = draw(st.integers(1, 2)), draw(SIZES | st.integers(33, 130))
    image = (batch, height, width, channels)
    return Pool(WindowDims(*image, *out, kernel, stride, dilation, padding[:2]), padding)


@every_isa
@given(seed=SEEDS, pool=pools(), dtype=st.sampled_from(["f32", "u8", "i8", "i32", "i64"]))
@some_examples
def test_max_pool(isa: Isa, seed: int, pool: Pool, dtype: Dtype) -> None:
    x = random_array(np.random.default_rng(seed), dtype, pool.shape)
    kernel, strides, padding, dilations = pool.window
    op = nn.MaxPool2dOp(operand(x), kernel, strides, padding, dilations)
    check(isa, MaxPoolKernel(isa, pool.dims, dtype), op, x)


@every_isa
@given(seed=SEEDS, pool=pools(), include=st.booleans())
@some_examples
def test_avg_pool(isa: Isa, seed: int, pool: Pool, include: bool) -> None:
    x = random_array(np.random.default_rng(seed), "f32", pool.shape)
    kernel, strides, padding, dilations = pool.window
    op = nn.AvgPool2dOp(operand(x), kernel, strides, padding, dilations, count_include_pad=include)
    check(isa, AvgPoolKernel(isa, pool.dims, include), op, x)


@every_isa
@given(seed=SEEDS, pool=pools(), single=st.booleans())
@some_examples
def test_quantized_avg_pool(isa: Isa, seed: int, pool: Pool, single: bool) -> None:
    rng = np.random.default_rng(seed)
    x = random_array(rng, "u8", pool.shape)
    taps = pool.dims.kernel[0] * pool.dims.kernel[1]
    multipliers = (rng.uniform(0.1, 2, 1 if single else taps) / taps).astype(np.float32)
    zero_x, zero_y = end_or_any(rng), end_or_any(rng)
    bounds = (min(zero_y, 4), max(zero_y, 250))
    kernel, strides, padding, dilations = pool.window
    op = qnn.QAvgPool2dOp(
        operand(x),
        operand(multipliers),
        (kernel, strides, padding, dilations),
        x_zero_point=zero_x,
        zero_point=zero_y,
        qmin=bounds[0],
        qmax=bounds[1],
    )
    own = QuantizedAvgPoolKernel(isa, pool.dims, multipliers.size, zero_x, zero_y, *bounds)
    check(isa, own, op, x, multipliers)


@every_isa
@given(
    seed=SEEDS,
    size=st.sampled_from([(1, 1), (2, 2), (7, 7), (3, 20), (16, 17)]),
    channels=st.sampled_from([1, 16, 16, 24, 32, 64, 65, 72, 128, 130]),
)
@some_examples
def test_global_avg_pool(isa: Isa, seed: int, size: tuple[int, int], channels: int) -> None:
    rng = np.random.default_rng(seed)
    x = random_array(rng, "u8", (2, *size, channels))
    if seed % 4 == 0:
        x[:] = 255
    multipliers = np.array([rng.uniform(0.1, 2) / (size[0] * size[1])], np.float32)
    zero_x, zero_y = end_or_any(rng), end_or_any(rng)
    bounds = (min(zero_y, 4), max(zero_y, 250))
    op = qnn.QAvgPool2dOp(
        operand(x),
        operand(multipliers),
        (size, (1, 1), (0, 0, 0, 0), (1, 1)),
        x_zero_point=zero_x,
        zero_point=zero_y,
        qmin=bounds[0],
        qmax=bounds[1],
    )
    dims = WindowDims(2, *size, channels, 1, 1, size)
    assert dims.is_global
    check(isa, GlobalAvgPoolKernel(isa, dims, 1, zero_x, zero_y, *bounds), op, x, multipliers)
