from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from xdsl.dialects.builtin import ModuleOp

from tests.passes.graphs import (
    TO_NHWC,
    GraphBuilder,
    assert_exact,
    ops_of,
)
from uqfc.dialects import nn, quant
from uqfc.dialects.quant import QuantParams, UniformType
from uqfc.dialects.tensors import shape_of
from uqfc.passes.sink_transposes import SinkTransposes


def residual_network() -> ModuleOp:
    b = GraphBuilder([(1, 3, 8, 8)])
    x = b.conv(b.block.args[0], 8, 3)
    x = b.add(nn.UnaryOp(x, nn.fn("relu")))
    x = b.pool(x, nn.MaxPool2dOp)
    for _ in range(2):
        y = b.add(nn.UnaryOp(b.conv(x, 8, 3), nn.fn("relu")))
        y = b.conv(y, 8, 3)
        x = b.add(nn.UnaryOp(b.add(nn.AddOp(y, x)), nn.fn("relu")))
    x = b.add(nn.ReduceOp(x, "mean", (2, 3)))
    flat = b.add(nn.ReshapeOp(x, (1, 8)))
    return b.module([b.add(nn.LinearOp(flat, b.weight(5, 8), b.weight(5)))])


def mobile_network() -> ModuleOp:
    b = GraphBuilder([(2, 3, 8, 8)])
    x = b.conv(b.block.args[0], 8, 3)
    x = b.add(nn.UnaryOp(x, nn.fn("hard_swish")))
    y = b.squeeze_excite(b.conv(x, 8, 3, groups=8))
    x = b.add(nn.AddOp(b.conv(y, 8), x))
    x = b.add(nn.MulOp(x, b.weight(1, 8, 1, 1)))
    x = b.add(nn.ReduceOp(x, "mean", (2, 3)))
    x = b.conv(x, 4)
    return b.module([b.add(nn.ReshapeOp(x, (2, 4)))])


def branching_network() -> ModuleOp:
    b = GraphBuilder([(1, 3, 8, 8)])
    x = b.conv(b.block.args[0], 4, 3)
    branches = [b.conv(x, 4), b.conv(b.conv(x, 2), 4, 3), b.conv(b.pool(x, nn.MaxPool2dOp), 2), x]
    x = b.add(nn.ConcatOp(branches, 1))
    x = b.add(nn.ReduceOp(x, "mean", (2, 3)))
    return b.module([b.add(nn.ReshapeOp(x, (1, 14)))])


def shuffling_network() -> ModuleOp:
    b = GraphBuilder([(1, 3, 8, 8)])
    x = b.conv(b.block.args[0], 8, 3)
    for _ in range(2):
        left = b.add(nn.SliceOp(x, (0, 0, 0, 0), (1, 4, 8, 8)))
        right = b.add(nn.SliceOp(x, (0, 4, 0, 0), (1, 4, 8, 8)))
        right = b.conv(b.conv(right, 4), 4, 3, groups=4)
        x = b.shuffle(b.add(nn.ConcatOp([left, right], 1)), 2)
    x = b.add(nn.ReduceOp(x, "mean", (2, 3)))
    return b.module([b.add(nn.ReshapeOp(x, (1, 8)))])


@pytest.mark.parametrize(
    ("network", "shuffles"),
    [
        (residual_network, 0),
        (mobile_network, 0),
        (branching_network, 0),
        (shuffling_network, 2),
    ],
)
def test_only_the_input_is_transposed(network: Callable[[], ModuleOp], shuffles: int) -> None:
    """Besides channel shuffles, which swap axes by their meaning."""
    result = assert_exact(network(), SinkTransposes())
    transposes = ops_of(result, nn.TransposeOp)
    images = [op for op in transposes if len(shape_of(op)) == 4]
    assert len(transposes) - len(images) == shuffles
    assert [op.operands[0].owner for op in images] == [images[0].parent]


def test_padding_before_the_first_convolution_is_moved_to_channels_last() -> None:
    b = GraphBuilder([(1, 3, 4, 4)])
    x = b.add(nn.PadOp(b.block.args[0], (0, 0, 1, 1), (0, 0, 1, 1)))
    result = assert_exact(b.module([b.conv(x, 2, 3)]), SinkTransposes())
    (pad,) = ops_of(result, nn.PadOp)
    assert shape_of(pad) == (1, 6, 6, 3)
    assert len(ops_of(result, nn.TransposeOp)) == 2


def test_per_channel_quantized_weights_are_transposed_before_they_are_dequantized() -> None:
    b = GraphBuilder([(1, 2, 4, 4)])
    scales = np.array([0.5, 0.25, 2.0], np.float32)
    stored = b.add(nn.ConstantOp(np.arange(12, dtype=np.int8).reshape(3, 2, 2, 1)))
    params = QuantParams.of("i8", scales, axis=0)
    weight = b.add(quant.DcastOp(b.add(quant.ScastOp(stored, UniformType(params)))))
    inside = b.add(nn.TransposeOp(b.block.args[0], TO_NHWC))
    conv = nn.Conv2dOp(inside, b.add(nn.TransposeOp(weight, TO_NHWC)))
    result = assert_exact(b.module([b.add(conv)]), SinkTransposes())
    assert [op.operands[0].owner for op in ops_of(result, nn.TransposeOp)] == [
        next(op for op in result.walk() if op.name == "func.func").regions[0].block
    ]
