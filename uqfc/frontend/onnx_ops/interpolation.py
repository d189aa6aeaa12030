"""Where the samples of a resized axis come from, and with which weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Sampling:
    """The attributes of Resize that say how to sample."""

    mode: str
    transformation: str
    rounding: str
    cubic_a: float = -0.75
    exclude_outside: bool = False
    extrapolation: float = 0.0


@dataclass(frozen=True)
class Axis:
    """An axis of ``size`` elements that becomes ``length``; ``region`` is what is cut out of it."""

    size: int
    length: int
    scale: float
    region: tuple[float, float] | None = None

    def positions(self, sampling: Sampling) -> F64:
        """The place in the input, in elements, of every element of the output."""
        i = np.arange(self.length, dtype=np.float64)
        match sampling.transformation:
            case "asymmetric":
                return i / self.scale
            case "align_corners":
                return i * (self.size - 1) / (self.size * self.scale - 1) if i.size > 1 else i
            case "tf_half_pixel_for_nn":
                return (i + 0.5) / self.scale
            case "pytorch_half_pixel":
                return (i + 0.5) / self.scale - 0.5 if i.size > 1 else i
            case "half_pixel_symmetric":
                adjustment = self.length / (self.size * self.scale)
                centre = self.size / 2
                return centre * (1 - adjustment) + (i + 0.5) / self.scale - 0.5
            case "tf_crop_and_resize":
                return self._cropped(i)
            case _:
                return (i + 0.5) / self.scale - 0.5

    def _cropped(self, i: F64) -> F64:
        start, end = self.region or (0.0, 1.0)
        if self.length == 1:
            return np.full(1, 0.5 * (start + end) * (self.size - 1))
        return start * (self.size - 1) + i * (end - start) * (self.size - 1) / (self.length - 1)

    def outside(self, sampling: Sampling) -> NDArray[np.bool_]:
        """Which outputs a crop takes from outside of the axis."""
        if sampling.transformation != "tf_crop_and_resize":
            return np.zeros(self.length, np.bool_)
        positions = self.positions(sampling)
        return (positions < 0) | (positions > self.size - 1)


def nearest(axis: Axis, sampling: Sampling) -> NDArray[np.int64]:
    """The index, within the axis, of each output's element."""
    x = axis.positions(sampling)
    match sampling.rounding:
        case "floor":
            index = np.floor(x)
        case "ceil":
            index = np.ceil(x)
        case "round_prefer_ceil":
            index = np.floor(x + 0.5)
        case _:
            index = np.ceil(x - 0.5)
    return np.clip(index, 0, axis.size - 1).astype(np.int64)


def taps(axis: Axis, sampling: Sampling) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Indices [n, T] within the axis and float32 weights [n, T] of a linear or cubic filter.

    Samples beyond an end are those at the end, or left out with ``exclude_outside``.
    """
    x = axis.positions(sampling)
    base = np.floor(x)
    fraction = x - base
    if sampling.mode == "linear":
        offsets = np.array([0, 1])
        weights = np.stack([1 - fraction, fraction], axis=1)
    else:
        offsets = np.array([-1, 0, 1, 2])
        weights = cubic(fraction, sampling.cubic_a)
    indices = base[:, None] + offsets
    if sampling.exclude_outside:
        inside = (indices >= 0) & (indices < axis.size)
        weights = np.where(inside, weights, 0.0)
        weights = weights / weights.sum(axis=1, keepdims=True)
    return np.clip(indices, 0, axis.size - 1).astype(np.int64), weights.astype(np.float32)


def cubic(t: F64, a: float) -> F64:
    """Weights [n, 4] of Keys' cubic convolution ("Cubic Convolution Interpolation …", eq. 4)."""
    near = [((a + 2) * d - (a + 3)) * d * d + 1 for d in (t, 1 - t)]
    far = [((a * d - 5 * a) * d + 8 * a) * d - 4 * a for d in (t + 1, 2 - t)]
    return np.stack([far[0], near[0], near[1], far[1]], axis=1)
