"""Constant weights and bias of a layer, and what follows from them for its integer form."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uqfc.dialects.quant import QuantParams
from uqfc.dialects.tensors import Array
from uqfc.numerics import F32, F64, I32, dequantize, fold_bias

ACCUMULATOR_LIMIT = 2**31 - 1

WEIGHT_DTYPES = {"i8": "int8", "u8": "int8", "i4": "int4", "u4": "int4", "i2": "int4", "u2": "int4"}
"""What weights of a storage type count as: two bits of any other range are held in four."""


@dataclass(frozen=True)
class QuantizedConstant:
    """Storage integers of a constant with their parameters."""

    array: I32
    params: QuantParams

    @property
    def real(self) -> F32:
        """The float32 values."""
        return dequantize(self.array, *self.params.broadcast(self.array.shape))

    @property
    def dtype(self) -> str:
        """What such weights are called: int8, int4, ternary (-1, 0, 1) or binary (-1, 1)."""
        params = self.params
        if (params.storage, params.qmin, params.qmax) != ("i2", -1, 1) or any(params.zero_points):
            return WEIGHT_DTYPES[params.storage]
        return "binary" if np.all(self.array) else "ternary"

    @property
    def is_per_channel(self) -> bool:
        """One scale per tensor or per output channel (axis 0), which is what kernels have."""
        return self.params.axis in (None, 0) and not self.params.block

    def channel_parameters(self) -> tuple[F64, I32]:
        """Scale (float64 of the float32 values) and zero point per output channel."""
        channels = self.array.shape[0]
        scales = np.asarray(self.params.scales, np.float64)
        zeros = np.asarray(self.params.zero_points, np.int32)
        return np.broadcast_to(scales, channels), np.broadcast_to(zeros, channels)

    def centred(self) -> NDArray[np.int64]:
        """``w - zero_point`` as [O, K]."""
        _, zeros = self.channel_parameters()
        return self.array.reshape(len(zeros), -1).astype(np.int64) - zeros[:, None]


def folded_addend(
    weights: QuantizedConstant, bias: Array | None, x_scale: float, x_zero_point: int
) -> I32 | None:
    """Bias and ``-x_zero_point * sum(w - zw)`` as int32 [O].

    None if the bias, or any partial sum of raw ui8 activations, could leave int32: the proof that
    NUMERICS asks for, from the actual weights.
    """
    scales, _ = weights.channel_parameters()
    centred = weights.centred()
    correction = -x_zero_point * centred.sum(axis=1)
    values = np.zeros(len(scales)) if bias is None else np.asarray(bias, np.float64)
    try:
        addend = fold_bias(values, np.float64(np.float32(x_scale)) * scales, correction)
    except OverflowError:
        return None
    largest = 255 * np.abs(centred).sum(axis=1) + np.abs(addend.astype(np.int64))
    return None if np.any(largest > ACCUMULATOR_LIMIT) else addend
