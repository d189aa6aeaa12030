"""Layouts of packed weights: pure functions between integer arrays and bytes.

``PanelLayout`` stores a matrix ``w[n, k]`` for kernels that produce a panel of output channels at
a time and take four consecutive ``k`` of one channel as one 32-bit word:

- output channels are cut into panels of ``panel`` channels (32 or 16); what is left at the end is
  a panel of the smallest multiple of 16 channels that holds it, so ``n`` is padded to
  ``padded_n``, a multiple of 16;
- ``k`` is ``segments`` runs of the same length (the kernel rows of a convolution), each padded to a
  multiple of ``unit`` (4, or 64 for matrix tiles), and then padded to ``padded_k``, a multiple of 4
  (8 for ``u4``, 16 for ``u2``), with values that add nothing;
- a panel of ``c`` channels is stored, panels one after the other, as

  ``s8``   int8 ``[padded_k / 4][c][4]``;
  ``u4``   bytes ``[padded_k / 8][c][4]`` whose byte ``t`` holds ``k = 8 i + t`` in its low nibble
           and ``k = 8 i + 4 + t`` in its high nibble; padding has the value of the zero point
           (padding channels: both 0); after the last panel zero points uint8 ``[padded_n]``;
  ``u2``   likewise bytes ``[padded_k / 16][c][4]`` whose byte ``t`` holds ``k = 16 i + 4 j + t`` in
           its bits ``2 j`` and ``2 j + 1``;
  ``s16``  little-endian int16 ``[padded_k / 4][2][c][2]``: first ``k = 4 i + (0, 2)``, then
           ``k = 4 i + (1, 3)``.

Panels are whole 64-byte lines, and so is what follows the last one, so that aligned blobs give
aligned loads. Grouped convolutions store one group after the other. Depthwise kernels use
``DepthwiseLayout``: panels of 16 channels whose ``k`` runs over the kernel's columns, each padded
to a multiple of 4 taps.

``unpack(pack(w, z)) == (w, z)`` for every ``w`` in range.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

Storage: TypeAlias = Literal["s8", "u4", "u2", "s16"]
I32: TypeAlias = NDArray[np.int32]
U8: TypeAlias = NDArray[np.uint8]
Scalar = TypeVar("Scalar", bound=np.generic)

CHANNELS = 16
"""Panels are whole vectors of this many channels."""
LINE = 64
RANGES: dict[Storage, tuple[int, int]] = {
    "s8": (-128, 127),
    "u4": (0, 15),
    "u2": (0, 3),
    "s16": (-32768, 32767),
}
NARROW_BITS: dict[Storage, int] = {"u4": 4, "u2": 2}
"""Bits of the storages of several weights a byte, which have zero points."""


def round_up(value: int, multiple: int) -> int:
    """The smallest multiple that is not below ``value``."""
    return -(-value // multiple) * multiple


def word_weights(storage: Storage) -> int:
    """Weights of a channel that are together in 32 bits: 4, of narrow storages more."""
    return 32 // NARROW_BITS[storage] if storage in NARROW_BITS else 4


@dataclass(frozen=True)
class PanelLayout:
    """Where each weight of ``w[groups * n, k]`` is. See the module's documentation."""

    n: int
    """Output channels of a group."""
    k: int
    storage: Storage
    panel: int
    groups: int = 1
    segments: int = 1
    unit: int = 4

    @property
    def shape(self) -> tuple[int, int]:
        """That of the weights."""
        return self.groups * self.n, self.k

    @property
    def segment_k(self) -> int:
        """Length of a segment without its padding."""
        return self.k // self.segments

    @property
    def padded_n(self) -> int:
        """Channels of a group with its padding."""
        return round_up(self.n, CHANNELS)

    @property
    def padded_k(self) -> int:
        stored = self.segments * round_up(self.segment_k, self.unit)
        return round_up(stored, word_weights(self.storage))

    @property
    def panels_bytes(self) -> int:
        """Size of the panels of a group: where its zero points are, if it has any."""
        return self.panel_bytes(self.padded_n)

    @property
    def group_bytes(self) -> int:
        """Size of the packed weights of a group."""
        zero_points = round_up(self.padded_n, LINE) if self.storage in NARROW_BITS else 0
        return self.panels_bytes + zero_points

    @property
    def bytes(self) -> int:
        """Size of the packed weights."""
        return self.groups * self.group_bytes

    def panels(self) -> Iterator[tuple[int, int]]:
        """First channel (of the padded group) and padded number of channels of each panel."""
        for first in range(0, self.padded_n, self.panel):
            yield first, min(self.panel, self.padded_n - first)

    def panel_bytes(self, channels: int) -> int:
        """Size of a panel of that many channels."""
        match self.storage:
            case "s8":
                return channels * self.padded_k
            case "u4" | "u2":
                return channels * self.padded_k * NARROW_BITS[self.storage] // 8
            case "s16":
                return channels * self.padded_k * 2

    def pad(self, values: NDArray[Scalar]) -> NDArray[Scalar]:
        """A per-channel array [groups * n], each group padded with zeros: [groups * padded_n]."""
        padded = np.zeros((self.groups, self.padded_n), values.dtype)
        padded[:, : self.n] = values.reshape(self.groups, self.n)
        return padded.ravel()

    def pack(self, weights: I32, zero_points: I32 | None = None) -> U8:
        """Bytes of ``weights`` [groups * n, k] with ``zero_points`` [groups * n].

        Zero points must be in the range of ``u4`` and ``u2``, and else 0, which they are if not
        given. Raises ValueError for a wrong shape or a value that the storage does not hold.
        """
        channels = self.groups * self.n
        zeros = np.zeros(channels, np.int32) if zero_points is None else zero_points
        self._check(weights, zeros)
        full_zeros = self.pad(zeros).reshape(self.groups, self.padded_n)
        full = np.repeat(full_zeros[:, :, None], self.padded_k, axis=2)
        self._real(full)[...] = weights.reshape(self.groups, self.n, self.segments, -1)
        packed = np.zeros((self.groups, self.group_bytes), np.uint8)
        for group in range(self.groups):
            panels = [self._pack_panel(full[group, i : i + c]) for i, c in self.panels()]
            packed[group, : self.panels_bytes] = np.concatenate(panels)
            if self.storage in NARROW_BITS:
                packed[group, self._zero_points] = full_zeros[group]
        return packed.ravel()

    @property
    def _zero_points(self) -> slice:
        """Where a group's zero points are."""
        return slice(self.panels_bytes, self.panels_bytes + self.padded_n)

    def unpack(self, packed: U8) -> tuple[I32, I32]:
        """``(weights [groups * n, k], zero_points [groups * n])`` of bytes that ``pack`` made."""
        if packed.dtype != np.uint8 or packed.shape != (self.bytes,):
            raise ValueError(f"expected uint8[{self.bytes}], got {packed.dtype}{packed.shape}")
        weights = np.zeros((self.groups, self.padded_n, self.padded_k), np.int32)
        zeros = np.zeros((self.groups, self.padded_n), np.int32)
        for group, data in enumerate(packed.reshape(self.groups, -1)):
            for first, channels in self.panels():
                start = self.panel_bytes(first)
                panel = data[start : start + self.panel_bytes(channels)]
                weights[group, first : first + channels] = self._unpack_panel(panel, channels)
            if self.storage in NARROW_BITS:
                zeros[group] = data[self._zero_points]
        return self._real(weights).reshape(-1, self.k), zeros[:, : self.n].ravel()

    def _real(self, padded: I32) -> I32:
        """The view [groups, n, segments, segment_k] of [groups, padded_n, padded_k]."""
        stored = self.segments * round_up(self.segment_k, self.unit)
        words = padded[:, : self.n, :stored]
        return words.reshape(*words.shape[:2], self.segments, -1)[..., : self.segment_k]

    def _check(self, weights: I32, zero_points: I32) -> None:
        channels = self.groups * self.n
        if weights.shape != (channels, self.k) or zero_points.shape != (channels,):
            expected = f"[{channels}, {self.k}] and [{channels}]"
            raise ValueError(f"expected {expected}, got {weights.shape} and {zero_points.shape}")
        low, high = RANGES[self.storage]
        if not (low <= weights.min() and weights.max() <= high):
            raise ValueError(f"weights of storage {self.storage} must be in [{low}, {high}]")
        limit = high if self.storage in NARROW_BITS else 0
        if not (zero_points.min() >= 0 and zero_points.max() <= limit):
            raise ValueError(f"zero points of storage {self.storage} must be in [0, {limit}]")

    def _pack_panel(self, weights: I32) -> U8:
        channels = len(weights)
        match self.storage:
            case "s8":
                words = weights.reshape(channels, -1, 4).swapaxes(0, 1)
                return words.astype(np.int8).view(np.uint8).ravel()
            case "u4" | "u2":
                bits = NARROW_BITS[self.storage]
                parts = weights.reshape(channels, -1, 8 // bits, 4).transpose(2, 1, 0, 3)
                shifted = [part << bits * i for i, part in enumerate(parts)]
                return np.bitwise_or.reduce(shifted).astype(np.uint8).ravel()
            case "s16":
                pairs = weights.reshape(channels, -1, 2, 2).transpose(1, 3, 0, 2)
                return np.ascontiguousarray(pairs).astype("<i2").view(np.uint8).ravel()

    def _unpack_panel(self, panel: U8, channels: int) -> I32:
        match self.storage:
            case "s8":
                words = panel.view(np.int8).reshape(-1, channels, 4).swapaxes(0, 1)
            case "u4" | "u2":
                bits = NARROW_BITS[self.storage]
                packed = panel.reshape(-1, channels, 4).swapaxes(0, 1)
                parts = [packed >> shift & (1 << bits) - 1 for shift in range(0, 8, bits)]
                words = np.stack(parts, axis=2)
            case "s16":
                words = panel.view("<i2").reshape(-1, 2, channels, 2).transpose(2, 0, 3, 1)
        return words.reshape(channels, -1).astype(np.int32)


@dataclass(frozen=True)
class DepthwiseLayout:
    """Where each weight of ``w[channels, kh, kw]`` is: ``panels`` with ``k = column * 4 j + row``.

    ``4 j`` is ``column_taps``: the kernel's height rounded up to a multiple of 4. The taps that
    this adds have the value of the zero point.
    """

    channels: int
    kernel: tuple[int, int]
    storage: Storage

    @property
    def shape(self) -> tuple[int, int, int]:
        """That of the weights."""
        return self.channels, *self.kernel

    @property
    def column_taps(self) -> int:
        return round_up(self.kernel[0], 4)

    @property
    def panels(self) -> PanelLayout:
        return PanelLayout(self.channels, self.kernel[1] * self.column_taps, self.storage, CHANNELS)

    @property
    def bytes(self) -> int:
        return self.panels.bytes

    def pad(self, values: NDArray[Scalar]) -> NDArray[Scalar]:
        """A per-channel array with zeros up to a multiple of 16 channels."""
        return self.panels.pad(values)

    def pack(self, weights: I32, zero_points: I32 | None = None) -> U8:
        """Bytes of ``weights`` [channels, kh, kw]; see ``PanelLayout.pack``."""
        if weights.shape != self.shape:
            raise ValueError(f"expected {list(self.shape)}, got {weights.shape}")
        height, width = self.kernel
        columns = np.zeros((self.channels, width, self.column_taps), np.int32)
        if zero_points is not None:
            columns += zero_points[:, None, None]
        columns[:, :, :height] = weights.swapaxes(1, 2)
        return self.panels.pack(columns.reshape(self.channels, -1), zero_points)

    def unpack(self, packed: U8) -> tuple[I32, I32]:
        """``(weights [channels, kh, kw], zero_points [channels])`` of bytes that ``pack`` made."""
        columns, zero_points = self.panels.unpack(packed)
        height, width = self.kernel
        taps = columns.reshape(self.channels, width, self.column_taps)[:, :, :height]
        return np.ascontiguousarray(taps.swapaxes(1, 2)), zero_points
