"""The float graph: few, orthogonal ops on ``tensor<…xf32>``. Images are NHWC throughout.

The importer wraps channel-first ops in ``nn.transpose``; a pass moves and cancels those.
"""

from __future__ import annotations

from xdsl.ir import Dialect

from uqfc.dialects.nn.base import FnAttr, TensorOp, fn, layer_name, with_layer
from uqfc.dialects.nn.constant import ConstantOp
from uqfc.dialects.nn.elementwise import (
    AddOp,
    BinaryOp,
    CompareOp,
    DivOp,
    FusableBinaryOp,
    MaximumOp,
    MinimumOp,
    MulOp,
    PowOp,
    SelectOp,
    SubOp,
    UnaryOp,
)
from uqfc.dialects.nn.layers import Conv2dOp, ConvolutionOp, Layer, LinearOp, MatmulOp
from uqfc.dialects.nn.movement import (
    BroadcastOp,
    CastOp,
    ConcatOp,
    GatherOp,
    PadOp,
    ReshapeOp,
    SliceOp,
    TransposeOp,
)
from uqfc.dialects.nn.reductions import (
    AvgPool2dOp,
    InterpolateOp,
    LayerNormOp,
    LrnOp,
    MaxPool2dOp,
    Pool2dOp,
    ReduceOp,
    SoftmaxOp,
)

Nn = Dialect(
    "nn",
    [
        AddOp,
        AvgPool2dOp,
        BroadcastOp,
        CastOp,
        CompareOp,
        ConcatOp,
        ConstantOp,
        Conv2dOp,
        DivOp,
        GatherOp,
        InterpolateOp,
        LayerNormOp,
        LinearOp,
        LrnOp,
        MatmulOp,
        MaximumOp,
        MaxPool2dOp,
        MinimumOp,
        MulOp,
        PadOp,
        PowOp,
        ReduceOp,
        ReshapeOp,
        SelectOp,
        SliceOp,
        SoftmaxOp,
        SubOp,
        TransposeOp,
        UnaryOp,
    ],
    [FnAttr],
)

__all__ = [
    "AddOp",
    "AvgPool2dOp",
    "BinaryOp",
    "BroadcastOp",
    "CastOp",
    "CompareOp",
    "ConcatOp",
    "ConstantOp",
    "Conv2dOp",
    "ConvolutionOp",
    "DivOp",
    "FnAttr",
    "FusableBinaryOp",
    "GatherOp",
    "InterpolateOp",
    "Layer",
    "LayerNormOp",
    "LinearOp",
    "LrnOp",
    "MatmulOp",
    "MaxPool2dOp",
    "MaximumOp",
    "MinimumOp",
    "MulOp",
    "Nn",
    "PadOp",
    "Pool2dOp",
    "PowOp",
    "ReduceOp",
    "ReshapeOp",
    "SelectOp",
    "SliceOp",
    "SoftmaxOp",
    "SubOp",
    "TensorOp",
    "TransposeOp",
    "UnaryOp",
    "fn",
    "layer_name",
    "with_layer",
]
