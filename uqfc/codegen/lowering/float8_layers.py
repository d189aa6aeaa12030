"""Kernels of layers of 8-bit floats."""

from __future__ import annotations

from math import prod

from uqfc.codegen.isa import Isa
from uqfc.codegen.kernels.float8_depthwise import Float8DepthwiseKernel
from uqfc.codegen.kernels.float8_layer import Float8LayerKernel
from uqfc.codegen.kernels.float_depthwise import MOST_TAPS
from uqfc.codegen.kernels.float_product import FloatEpilogue
from uqfc.codegen.kernels.operands import ConvDims
from uqfc.codegen.lowering.geometry import conv_dims
from uqfc.codegen.lowering.registry import Choice, lowering
from uqfc.codegen.lowering.tensor_ops import tensor_choice
from uqfc.dialects.qkernel import LaunchOp
from uqfc.dialects.qnn import Float8Conv2dOp, Float8LayerOp, Float8LinearOp, format_of
from uqfc.dialects.tensors import shape_of


def epilogue_of(op: Float8LayerOp) -> FloatEpilogue:
    activation = None if op.activation is None else op.activation.data
    output = None if op.scale is None else format_of(op.result)
    return FloatEpilogue(op.bias is not None, op.residual is not None, activation, output)


def scale_of(op: Float8LayerOp) -> float:
    return 1.0 if op.scale is None else op.scale.value.data


@lowering(Float8Conv2dOp)
def conv2d(launch: LaunchOp, op: Float8Conv2dOp, isa: Isa) -> Choice:
    dims, forms = conv_dims(op), (format_of(op.x), format_of(op.weight))
    if op.is_depthwise and dims.kernel[0] * dims.kernel[1] <= MOST_TAPS:
        depthwise = Float8DepthwiseKernel(isa, dims, epilogue_of(op), *forms, scale_of(op))
        return tensor_choice(depthwise, op.operands)
    kernel = Float8LayerKernel(isa, dims, *forms, epilogue_of(op), scale_of(op))
    return tensor_choice(kernel, op.operands)


@lowering(Float8LinearOp)
def linear(launch: LaunchOp, op: Float8LinearOp, isa: Isa) -> Choice:
    n, k = shape_of(op.weight)
    rows = prod(shape_of(op.x)[:-1])
    dims = ConvDims(1, 1, rows, k, 1, rows, n, (1, 1))
    forms = format_of(op.x), format_of(op.weight)
    kernel = Float8LayerKernel(isa, dims, *forms, epilogue_of(op), scale_of(op))
    return tensor_choice(kernel, op.operands)
