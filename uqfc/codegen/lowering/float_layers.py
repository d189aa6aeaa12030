"""Kernels of float32 convolution, linear and matrix products."""

from __future__ import annotations

from dataclasses import replace
from math import prod

from uqfc.codegen.isa import Isa
from uqfc.codegen.kernels.float_conv import FloatConvKernel
from uqfc.codegen.kernels.float_depthwise import MOST_TAPS, FloatDepthwiseKernel
from uqfc.codegen.kernels.float_linear import LinearKernel, MatmulKernel
from uqfc.codegen.kernels.float_product import FloatEpilogue
from uqfc.codegen.lowering.geometry import conv_dims
from uqfc.codegen.lowering.registry import RESULT, Choice, lowering
from uqfc.codegen.lowering.tensor_ops import tensor_choice
from uqfc.dialects import nn
from uqfc.dialects.qkernel import LaunchOp
from uqfc.dialects.tensors import shape_of


def epilogue_of(op: nn.Layer) -> FloatEpilogue:
    activation = None if op.activation is None else op.activation.data
    return FloatEpilogue(op.bias is not None, op.residual is not None, activation)


@lowering(nn.Conv2dOp)
def conv2d(launch: LaunchOp, op: nn.Conv2dOp, isa: Isa) -> Choice:
    dims, epilogue = conv_dims(op), epilogue_of(op)
    if op.is_depthwise and dims.kernel[0] * dims.kernel[1] <= MOST_TAPS:
        return tensor_choice(FloatDepthwiseKernel(isa, dims, epilogue), op.operands)
    kernel = FloatConvKernel(isa, replace(dims, pitch=launch.pitch(RESULT)), epilogue)
    return tensor_choice(kernel, op.operands, pitched=[RESULT])


@lowering(nn.LinearOp)
def linear(launch: LaunchOp, op: nn.LinearOp, isa: Isa) -> Choice:
    n, k = shape_of(op.weight)
    rows = prod(shape_of(op.x)[:-1])
    return tensor_choice(LinearKernel(isa, rows, k, n, epilogue_of(op)), op.operands)


@lowering(nn.MatmulOp)
def matmul(launch: LaunchOp, op: nn.MatmulOp, isa: Isa) -> Choice:
    return tensor_choice(MatmulKernel(isa, shape_of(op.lhs), shape_of(op.rhs)), op.operands)
