"""Integer form of conv2d and linear: addend, multipliers, epilogue."""

from __future__ import annotations

import numpy as np
from xdsl.dialects.builtin import f32
from xdsl.ir import Attribute, Operation, SSAValue

from uqfc.dialects import nn
from uqfc.dialects.qnn import Epilogue, IntegerLayerOp, QConv2dOp, QLinearOp
from uqfc.dialects.quant import STORAGE_ELEMENTS
from uqfc.dialects.tensors import Array, i4, int_tuple, numpy_dtype, ui4, ui8
from uqfc.numerics import F32, Activation, multiplier
from uqfc.passes.support.integer.values import Affine, Quantized, are_usable
from uqfc.passes.support.integer.weights import QuantizedConstant, folded_addend

WEIGHT_ELEMENTS: dict[str, Attribute] = {**STORAGE_ELEMENTS, "i2": i4, "u2": ui4}
"""How an integer layer holds weights of each storage type: kernels have none below 4 bits."""


def integer_layer(
    layer: nn.Layer,
    x: Quantized,
    weights: QuantizedConstant,
    bias: Array | None,
    residual: Quantized | None,
    target: Affine | None,
) -> list[Operation] | None:
    """The ops that compute ``layer`` on integers, the layer last; None if a number would overflow.

    ``target`` None: the result is float32.
    """
    addend = folded_addend(weights, bias, x.affine.scale, x.affine.zero_point)
    if addend is None:
        return None
    activation = None if layer.activation is None else layer.activation.data
    scales, zeros = weights.channel_parameters()
    factors, epilogue = epilogue_of(x.affine, scales, residual, activation, target)
    if not are_usable(factors, epilogue.residual_multiplier, epilogue.reciprocal):
        return None
    storage = WEIGHT_ELEMENTS[weights.params.storage]
    constants = [
        nn.ConstantOp(weights.array.astype(numpy_dtype(storage)), storage),
        nn.ConstantOp(np.ascontiguousarray(zeros)),
        nn.ConstantOp(addend),
        nn.ConstantOp(np.ascontiguousarray(factors)),
    ]
    operands: list[SSAValue | Operation] = [x.value, *constants]
    element: Attribute = f32 if target is None else ui8
    tail = None if residual is None else residual.value
    return [*constants, build(layer, operands, tail, x.affine.zero_point, epilogue, element)]


def build(
    layer: nn.Layer,
    operands: list[SSAValue | Operation],
    residual: SSAValue | None,
    x_zero_point: int,
    epilogue: Epilogue,
    element: Attribute,
) -> IntegerLayerOp:
    if isinstance(layer, nn.LinearOp):
        return QLinearOp(
            operands, residual, x_zero_point=x_zero_point, epilogue=epilogue, element=element
        )
    return QConv2dOp(
        operands,
        residual,
        strides=int_tuple(layer.strides),
        padding=int_tuple(layer.padding),
        dilations=int_tuple(layer.dilations),
        groups=layer.groups.value.data,
        x_zero_point=x_zero_point,
        epilogue=epilogue,
        element=element,
    )


def epilogue_of(
    x: Affine,
    weight_scales: Array,
    residual: Quantized | None,
    activation: Activation | None,
    target: Affine | None,
) -> tuple[F32, Epilogue]:
    """Multipliers per channel and the epilogue (``qnn.Epilogue`` has the formulas)."""
    x_scale = float(np.float32(x.scale))
    residual_scale = 1.0 if residual is None else residual.affine.scale
    residual_zero = 0 if residual is None else residual.affine.zero_point
    if target is None:
        return multiplier(x_scale, weight_scales), Epilogue(
            activation=activation,
            residual_zero_point=residual_zero,
            residual_multiplier=residual_scale,
        )
    bounds = None if activation is None else activation.bounds
    if activation is not None and bounds is None:
        return multiplier(x_scale, weight_scales), Epilogue(
            target.zero_point,
            target.qmin,
            target.qmax,
            activation,
            float(multiplier(1.0, over=target.scale)),
            residual_zero,
            residual_scale,
        )
    limited = target if bounds is None else target.clamped(*bounds)
    scaled = 1.0 if residual is None else float(multiplier(residual_scale, over=target.scale))
    return multiplier(x_scale, weight_scales, over=target.scale), Epilogue(
        limited.zero_point,
        limited.qmin,
        limited.qmax,
        residual_zero_point=residual_zero,
        residual_multiplier=scaled,
    )
