"""Integer convolution, linear and matrix product: exact sums, then the epilogue of ``numerics``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from xdsl.dialects.builtin import f32, i32

from uqfc.dialects import qnn
from uqfc.dialects.tensors import Array, element_of, int_tuple, shape_of
from uqfc.errors import UqfcError
from uqfc.qat.integer.arithmetic import activated, centred, unsigned
from uqfc.qat.integer.products import (
    EXACT_FLOAT32,
    LARGEST_BYTE,
    ExactWeight,
    SumWindow,
    matrix_product,
    product_dtype,
    sum_conv2d,
    sum_linear,
)
from uqfc.qat.integer.registry import Step, aligned, constant_of, makes, to_tensor

LARGEST_SUM = 2**31 - 1


@dataclass(frozen=True)
class LayerConstants:
    """What a layer's sums are made and finished with; ``addend`` and ``multiplier`` are [O]."""

    weight: ExactWeight
    addend: Tensor
    """In a float type in which adding it to a sum is exact."""
    multiplier: Tensor


def layer_constants(op: qnn.IntegerLayerOp, device: torch.device) -> LayerConstants | None:
    """None if an operand is no constant. UqfcError if a sum could leave int32."""
    operands = (op.weight, op.weight_zero_point, op.addend, op.multiplier)
    arrays = [a for a in map(constant_of, operands) if a is not None]
    if len(arrays) != len(operands):
        return None
    weight, zero_point, addend, multiplier = arrays
    exact = exact_weight(op, weight, zero_point, device)
    most = exact.bound + int(np.abs(addend.astype(np.int64)).max(initial=0))
    if most > LARGEST_SUM:
        raise UqfcError(f"{op.name} '{op.layer}': a sum could exceed int32")
    kind = torch.float32 if most < EXACT_FLOAT32 else torch.float64
    return LayerConstants(exact, to_tensor(addend, device).to(kind), to_tensor(multiplier, device))


def exact_weight(
    op: qnn.IntegerLayerOp, weight: Array, zero_point: Array, device: torch.device
) -> ExactWeight:
    """``weight - zero_point`` with one zero point per output channel (axis 0)."""
    zeros = zero_point.astype(np.int64).reshape(-1, *[1] * (weight.ndim - 1))
    try:
        return ExactWeight.of(to_tensor(weight.astype(np.int64) - zeros, device))
    except OverflowError as error:
        raise UqfcError(f"{op.name} '{op.layer}': {error}") from error


def epilogue(op: qnn.IntegerLayerOp, constants: LayerConstants) -> Callable[..., Tensor]:
    """``f(total, residual=None)``: the result from sums without the addend (``qnn.Epilogue``)."""
    e, element = op.epilogue.data, element_of(op.result)
    addend, multiplier = constants.addend, constants.multiplier

    def finish(total: Tensor, residual: Tensor | None = None) -> Tensor:
        acc = total.to(addend.dtype) + addend
        if element == i32:
            return acc.to(torch.int32)
        v = acc.to(torch.float32) * multiplier
        if residual is not None:
            v = v + centred(residual, e.residual_zero_point) * e.residual_multiplier
        v = activated(e.activation, v)
        if element == f32:
            return v
        if e.activation is not None:
            v = v * e.reciprocal
        return unsigned(v, e.zero_point, e.qmin, e.qmax)

    return finish


def layer_step(
    op: qnn.IntegerLayerOp, constants: LayerConstants, total: Callable[[Tensor], Tensor]
) -> Step:
    finish = epilogue(op, constants)
    if op.residual is None:
        return Step(lambda x: finish(total(x)), (op.x,))
    return Step(lambda x, residual: finish(total(x), residual), (op.x, op.residual))


@makes(qnn.QConv2dOp)
def conv2d(op: qnn.QConv2dOp, device: torch.device) -> Step | None:
    constants = layer_constants(op, device)
    if constants is None:
        return None
    geometry = (int_tuple(op.strides), int_tuple(op.padding), int_tuple(op.dilations))
    window = SumWindow(*geometry, op.groups.value.data)
    zero_point = op.x_zero_point.value.data

    def total(x: Tensor) -> Tensor:
        images = sum_conv2d(x.flatten(0, 1), constants.weight, window, zero_point)
        return images.unflatten(0, x.shape[:2])

    return layer_step(op, constants, total)


@makes(qnn.QLinearOp)
def linear(op: qnn.QLinearOp, device: torch.device) -> Step | None:
    constants = layer_constants(op, device)
    if constants is None:
        return None
    return layer_step(op, constants, lambda x: sum_linear(x, constants.weight))


@makes(qnn.QMatmulOp)
def matmul(op: qnn.QMatmulOp, device: torch.device) -> Step:
    """No weights are known: each term is at most the product of the largest centred bytes."""
    del device
    zeros = (op.lhs_zero_point.value.data, op.rhs_zero_point.value.data)
    largest = [max(zero, LARGEST_BYTE - zero) for zero in zeros]
    bound = shape_of(op.lhs)[-1] * largest[0] * largest[1]
    if bound > LARGEST_SUM:
        raise UqfcError(f"{op.name} '{op.layer}': a sum could exceed int32")
    kind = product_dtype(bound, max(largest))

    def run(lhs: Tensor, rhs: Tensor) -> Tensor:
        operands = [t.to(kind) - z for t, z in zip(aligned(lhs, rhs), zeros, strict=True)]
        return matrix_product(*operands).to(torch.int32)

    return Step(run, (op.lhs, op.rhs))
