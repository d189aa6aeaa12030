"""What the constants of an integer layer prove, so that its kernel need not allow for it."""

from __future__ import annotations

from math import prod

import numpy as np

from uqfc.codegen.kernels import ConvDims
from uqfc.codegen.kernels.depthwise_pairs import fits_int16
from uqfc.codegen.kernels.saturating import SMALL_SUMS, Known
from uqfc.codegen.lowering.registry import constant_operand
from uqfc.dialects.qkernel import LaunchOp, UnpackOp
from uqfc.dialects.qnn import IntegerLayerOp, QConv2dOp
from uqfc.dialects.tensors import Array, element_of, i8, i16, shape_of, ui2, ui4
from uqfc.packing import NARROW_BITS, RANGES, DepthwiseLayout, Storage

STORAGES: dict[object, Storage] = {i8: "s8", i16: "s16", ui4: "u4", ui2: "u2"}
"""How the kernels store weights of an element type."""


def known_of(op: IntegerLayerOp, addend: Array | None, multiplier: Array | None) -> Known:
    """What the kernel of a layer with u8 outputs may rely on; None: unknown, or replaceable."""
    e = op.epilogue.data
    whole, from_zero = (e.qmin, e.qmax) == (0, 255), e.zero_point == 0
    if addend is None or multiplier is None or op.replaceable is not None:
        return Known(whole=whole, from_zero=from_zero)
    small = from_zero and are_small(op, addend, multiplier)
    bounded = is_bounded(op, multiplier, small=small)
    return Known(bounded, whole, from_zero, small and bounded)


def are_small(op: IntegerLayerOp, addend: Array, multiplier: Array) -> bool:
    """Whether sums are in ``SMALL_SUMS`` whatever the weights are; only for what has a use for it.

    Products have no use for it: dot products and multiplications are what takes their time.
    """
    depthwise = isinstance(op, QConv2dOp) and op.is_depthwise
    plain = op.epilogue.data.activation is None and op.residual is None
    if not depthwise or not plain or multiplier.min(initial=0.0) < 0:
        return False
    low, high = RANGES[STORAGES[element_of(op.weight)]]
    largest = high - low if low == 0 else -low
    most = 255 * largest * prod(shape_of(op.weight)[1:])
    ends = int(addend.min(initial=0)) - most, int(addend.max(initial=0)) + most
    return all(end in SMALL_SUMS for end in ends)


def is_bounded(op: IntegerLayerOp, multiplier: Array, *, small: bool) -> bool:
    """No value before rounding reaches 2**31, because no sum does, or because sums are small.

    Activations never give more than the larger of their operand's magnitude and 1.
    """
    e = op.epilogue.data
    if small:
        return float(multiplier.max(initial=0)) * SMALL_SUMS.stop <= 2.0**30
    factor = max([1.0, *map(abs, e.activation.params)]) * e.reciprocal if e.activation else 1.0
    residual = 0.0 if op.residual is None else 255 * abs(e.residual_multiplier)
    largest = float(np.abs(multiplier).max(initial=0)) * 2.0**31 + residual + 1
    return largest * factor <= 2.0**30


def weights_fit_int16(launch: LaunchOp, op: QConv2dOp, dims: ConvDims, storage: Storage) -> bool:
    """Whether the constant weights of a depthwise layer prove it; ``depthwise_pairs``."""
    weight = constant_operand(launch, op.weight)
    if weight is None or storage not in NARROW_BITS:
        return False
    if isinstance(op.weight.owner, UnpackOp):
        layout = DepthwiseLayout(dims.out_channels, dims.kernel, storage)
        return fits_int16(*layout.unpack(weight))
    zeros = constant_operand(launch, op.weight_zero_point)
    taps = weight.reshape(weight.shape[:3]).astype(np.int32)
    return zeros is not None and fits_int16(taps, zeros.astype(np.int32))
