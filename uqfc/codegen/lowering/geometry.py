"""Sizes of convolutions as kernels take them."""

from __future__ import annotations

from uqfc.codegen.kernels.operands import ConvDims
from uqfc.dialects.nn import ConvolutionOp
from uqfc.dialects.tensors import int_tuple, shape_of


def conv_dims(op: ConvolutionOp) -> ConvDims:
    batch, height, width, channels = shape_of(op.x)
    out_channels, kernel_height, kernel_width, _ = shape_of(op.weight)
    _, out_height, out_width, _ = shape_of(op.result)
    strides, dilations = int_tuple(op.strides), int_tuple(op.dilations)
    padding = int_tuple(op.padding)
    return ConvDims(
        batch,
        height,
        width,
        channels,
        out_height,
        out_width,
        out_channels,
        (kernel_height, kernel_width),
        (strides[0], strides[1]),
        (dilations[0], dilations[1]),
        (padding[0], padding[1]),
        op.groups.value.data,
    )
