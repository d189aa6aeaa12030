"""Float products and convolutions sum in the contract's order, to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.codegen.harness import SEEDS, convolution_dims
from tests.codegen.tensor_harness import (
    SIZES,
    Array,
    check,
    every_isa,
    few_examples,
    operand,
    ordinary_floats,
    random_array,
    some_examples,
)
from uqfc.codegen.isa import VNNI512, Isa
from uqfc.codegen.kernels.float_conv import FloatConvKernel
from uqfc.codegen.kernels.float_depthwise import FloatDepthwiseKernel
from uqfc.codegen.kernels.float_linear import LinearKernel, MatmulKernel
from uqfc.codegen.kernels.float_product import FloatEpilogue
from uqfc.codegen.kernels.integer_matmul import IntegerMatmulKernel
from uqfc.codegen.kernels.operands import ConvDims
from uqfc.dialects import nn, qnn
from uqfc.dialects.nn.base import FnAttr
from uqfc.numerics import Activation

conv_dims = st.composite(convolution_dims)

EPILOGUES = st.sampled_from(
    [
        FloatEpilogue(),
        FloatEpilogue(bias=True),
        FloatEpilogue(bias=True, activation=Activation("clip", (-1.0, 6.0))),
        FloatEpilogue(bias=True, residual=True, activation=Activation("relu")),
        FloatEpilogue(residual=True, activation=Activation("silu")),
    ]
)


def extras(
    rng: np.random.Generator, epilogue: FloatEpilogue, n: int, shape: tuple[int, ...]
) -> tuple[list[Array], dict[str, Any]]:
    """Bias and residual, and the arguments that an op takes for them."""
    arrays: list[Array] = []
    keywords: dict[str, Any] = {}
    if epilogue.bias:
        arrays.append(ordinary_floats(rng, n))
        keywords["bias"] = operand(arrays[-1])
    if epilogue.residual:
        arrays.append(ordinary_floats(rng, *shape))
        keywords["residual"] = operand(arrays[-1])
    if epilogue.activation:
        keywords["activation"] = FnAttr(epilogue.activation)
    return arrays, keywords


@every_isa
@given(seed=SEEDS, rows=SIZES, k=SIZES, n=SIZES, epilogue=EPILOGUES, in_place=st.booleans())
@some_examples
def test_linear(
    isa: Isa, seed: int, rows: int, k: int, n: int, epilogue: FloatEpilogue, in_place: bool
) -> None:
    rng = np.random.default_rng(seed)
    x, w = random_array(rng, "f32", (rows, k)), ordinary_floats(rng, n, k)
    more, keywords = extras(rng, epilogue, n, (rows, n))
    op = nn.LinearOp(operand(x), operand(w), **keywords)
    place = 1 + len(more) if in_place and epilogue.residual else None
    check(isa, LinearKernel(isa, rows, k, n, epilogue), op, x, w, *more, in_place=place)


@every_isa
def test_linear_of_more_rows_than_a_block(isa: Isa) -> None:
    rng = np.random.default_rng(0)
    x, w = ordinary_floats(rng, 70, 2000), ordinary_floats(rng, 3, 2000)
    op = nn.LinearOp(operand(x), operand(w))
    check(isa, LinearKernel(isa, 70, 2000, 3), op, x, w)


BATCHES = st.sampled_from(
    [((), ()), ((3,), ()), ((), (2,)), ((2, 3), (2, 3)), ((2, 1), (1, 3)), ((3,), (2, 1))]
)


@every_isa
@given(seed=SEEDS, batch=BATCHES, m=SIZES, k=SIZES, n=SIZES)
@few_examples
def test_matmul(
    isa: Isa, seed: int, batch: tuple[tuple[int, ...], tuple[int, ...]], m: int, k: int, n: int
) -> None:
    rng = np.random.default_rng(seed)
    a, c = random_array(rng, "f32", (*batch[0], m, k)), ordinary_floats(rng, *batch[1], k, n)
    op = nn.MatmulOp(operand(a), operand(c))
    check(isa, MatmulKernel(isa, a.shape, c.shape), op, a, c)


@every_isa
@given(
    seed=SEEDS,
    batch=BATCHES,
    m=SIZES,
    k=SIZES,
    n=SIZES,
    zeros=st.tuples(*[st.integers(0, 255)] * 2),
)
@few_examples
def test_integer_matmul(
    isa: Isa,
    seed: int,
    batch: tuple[tuple[int, ...], tuple[int, ...]],
    m: int,
    k: int,
    n: int,
    zeros: tuple[int, int],
) -> None:
    rng = np.random.default_rng(seed)
    a, c = random_array(rng, "u8", (*batch[0], m, k)), random_array(rng, "u8", (*batch[1], k, n))
    op = qnn.QMatmulOp(operand(a), operand(c), *zeros)
    check(isa, IntegerMatmulKernel(isa, a.shape, c.shape, *zeros), op, a, c)


def conv_op(dims: ConvDims, x: Array, w: Array, keywords: dict[str, Any]) -> nn.Conv2dOp:
    reach = [(k - 1) * d + 1 for k, d in zip(dims.kernel, dims.dilation, strict=True)]
    sizes, outs = (dims.height, dims.width), (dims.out_height, dims.out_width)
    ends = [
        max(0, (outs[i] - 1) * dims.stride[i] + reach[i] - dims.pad_begin[i] - sizes[i])
        for i in range(2)
    ]
    return nn.Conv2dOp(
        operand(x),
        operand(w),
        strides=dims.stride,
        padding=(*dims.pad_begin, *ends),
        dilations=dims.dilation,
        groups=dims.groups,
        **keywords,
    )


@every_isa
@given(
    seed=SEEDS,
    groups=st.sampled_from([1, 1, 2, 3]),
    channels=st.sampled_from([1, 2, 3, 5, 16, 17]),
    outputs=st.sampled_from([1, 2, 4, 5, 16, 17]),
    epilogue=EPILOGUES,
    data=st.data(),
)
@some_examples
def test_conv(
    isa: Isa,
    seed: int,
    groups: int,
    channels: int,
    outputs: int,
    epilogue: FloatEpilogue,
    data: st.DataObject,
) -> None:
    rng = np.random.default_rng(seed)
    inputs, outputs = groups * channels, groups * outputs
    dims = data.draw(conv_dims(in_channels=inputs, out_channels=outputs, groups=groups))
    x = ordinary_floats(rng, dims.batch, dims.height, dims.width, dims.in_channels)
    w = ordinary_floats(rng, dims.out_channels, *dims.kernel, channels)
    shape = (dims.batch, dims.out_height, dims.out_width, dims.out_channels)
    more, keywords = extras(rng, epilogue, dims.out_channels, shape)
    op = conv_op(dims, x, w, keywords)
    place = 1 + len(more) if epilogue.residual and rng.random() < 0.5 else None
    check(isa, FloatConvKernel(isa, dims, epilogue), op, x, w, *more, in_place=place)


@every_isa
@given(seed=SEEDS, channels=SIZES.filter(lambda n: n > 1), epilogue=EPILOGUES, data=st.data())
@few_examples
def test_depthwise(
    isa: Isa, seed: int, channels: int, epilogue: FloatEpilogue, data: st.DataObject
) -> None:
    rng = np.random.default_rng(seed)
    same = {"in_channels": channels, "out_channels": channels, "groups": channels}
    dims = data.draw(conv_dims(**same))
    x = ordinary_floats(rng, dims.batch, dims.height, dims.width, channels)
    w = ordinary_floats(rng, channels, *dims.kernel, 1)
    shape = (dims.batch, dims.out_height, dims.out_width, channels)
    more, keywords = extras(rng, epilogue, channels, shape)
    kernel = FloatDepthwiseKernel(isa, dims, epilogue)
    check(isa, kernel, conv_op(dims, x, w, keywords), x, w, *more)


def test_depthwise_refuses_other_convolutions() -> None:
    dims = ConvDims(1, 9, 9, 4, 1, 1, 4, (9, 9), groups=4)
    with pytest.raises(ValueError, match="not a depthwise convolution"):
        FloatDepthwiseKernel(VNNI512, dims)
    kernel = MatmulKernel(VNNI512, (2, 3), (3, 4))
    with pytest.raises(ValueError, match="needs scratch memory"):
        kernel.call(None, [], None)  # pyright: ignore[reportArgumentType] # fails before
