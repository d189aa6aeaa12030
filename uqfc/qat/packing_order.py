"""Packing weights as one gather: where each packed element comes from is found out once.

Packing moves weights and zero points, and computes nothing. So the packed digits, base 16, of every
element's number say what is where.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np
from numpy.typing import NDArray

from uqfc.dialects.tensors import Shape
from uqfc.packing import I32, U8, Storage

Pack = Callable[[I32, I32], U8]
"""Weights and one zero point per output channel to bytes."""
ELEMENTS: dict[Storage, type[np.signedinteger] | type[np.uint8]] = {
    "s8": np.int8,
    "s16": np.int16,
    "u4": np.uint8,
}


class PackingOrder:
    """``pack`` of a shape and storage, much faster when it is called often."""

    def __init__(self, pack: Pack, shape: Shape, storage: Storage) -> None:
        self._storage: Storage = storage
        self._count, channels = prod(shape), shape[0]
        # Number 0 is a packed zero, then come the weights, then (four bits) the zero points.
        weights = np.arange(1, self._count + 1).reshape(shape)
        zeros = np.arange(1, channels + 1) + self._count
        if storage != "u4":
            zeros = np.zeros(channels, np.int64)
        low = high = np.zeros((), np.int64)
        for shift in range(0, int(zeros[-1] + self._count).bit_length() + 1, 4):
            digits = [((numbers >> shift) & 15).astype(np.int32) for numbers in (weights, zeros)]
            packed = pack(digits[0], digits[1]).view(ELEMENTS[storage]).astype(np.int64)
            low = low + ((packed & 15) << shift)
            high = high + ((packed >> 4) << shift)
        self._low: NDArray[np.int32] = low.astype(np.int32)
        self._high: NDArray[np.int32] = high.astype(np.int32)

    def pack(self, weight: I32, zero_points: I32) -> U8:
        """The bytes that ``pack`` gives. Values must fit the storage: they are not checked."""
        element = ELEMENTS[self._storage]
        parts = [np.zeros(1, element), weight.reshape(-1).astype(element)]
        if self._storage == "u4":
            parts.append(zero_points.astype(element))
        source = np.concatenate(parts)
        packed = source.take(self._low)
        if self._storage == "u4":
            packed |= source.take(self._high) << np.uint8(4)
        return packed.view(np.uint8)
