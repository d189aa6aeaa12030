"""A histogram whose content does not depend on the order or the split of the data.

Bins are ``[k * 2**e, (k + 1) * 2**e)`` for integers ``k``. The exponent ``e`` is the smallest for
which the bins from the one of ``min(minimum, 0)`` to the one of ``max(maximum, 0)`` are at most
``bins``: a function of the extremes alone, never decreasing as data arrives. Growing halves bin
indices (``k >> 1``), which is exact. So the histogram of a data set is the same whether it was
built from one array, from many in any order, or by merging histograms of its parts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uqfc.errors import CalibrationError
from uqfc.numerics import F32, F64

I64 = NDArray[np.int64]

MIN_EXPONENT = -126
"""Bins are never narrower than the smallest normal float32."""

DEFAULT_BINS = 4096
_BLOCK = 1 << 15
"""Elements binned at a time: the temporaries stay in the cache."""


@dataclass(frozen=True)
class Grid:
    """Bins ``first <= k < first + count`` of width ``2**exponent``; they cover zero."""

    exponent: int
    first: int
    count: int

    @property
    def width(self) -> float:
        return math.ldexp(1.0, self.exponent)

    @property
    def edges(self) -> F64:
        """``count + 1`` bin edges, exact in float64."""
        return np.ldexp(np.arange(self.first, self.first + self.count + 1.0), self.exponent)


def grid_of(low: float, high: float, bins: int) -> Grid:
    """The finest grid with at most ``bins`` bins that covers ``low``, ``high`` and zero."""
    low, high = min(low, 0.0), max(high, 0.0)
    if low == high:
        return Grid(MIN_EXPONENT, 0, 1)
    exponent = max(MIN_EXPONENT, math.frexp((high - low) / bins)[1] - 2)
    while True:
        first = math.floor(math.ldexp(low, -exponent))
        count = math.floor(math.ldexp(high, -exponent)) - first + 1
        if count <= bins:
            return Grid(exponent, first, count)
        exponent += 1


class Histogram:
    """Counts of finite float32 values on a dyadic grid; O(bins) memory.

    Attributes:
        minimum, maximum: extremes seen; ``inf`` and ``-inf`` while there is no data.
        zeros: how many values were ±0. They are in ``counts`` too; zero costs no quantization
            error, so the searches treat these as a point mass.
        counts: int64 [grid.count].
    """

    def __init__(self, bins: int = DEFAULT_BINS) -> None:
        if not 16 <= bins <= 1 << 20:
            raise CalibrationError(f"bins is {bins}; accepted: 16 to {1 << 20}")
        self.bins = bins
        self.minimum, self.maximum = math.inf, -math.inf
        self.zeros = 0
        self.grid = grid_of(0.0, 0.0, bins)
        self.counts: I64 = np.zeros(self.grid.count, np.int64)

    @property
    def total(self) -> int:
        return int(self.counts.sum())

    def update(self, x: F32, low: float, high: float) -> None:
        """Add all elements of ``x``; ``low`` and ``high`` are its extremes, finite."""
        self._cover(low, high)
        grid = self.grid
        flat = x.ravel(order="K")  # a view for any dense layout; the order is irrelevant
        # Scaling up by a power of two is exact in float32; scaling down could underflow.
        dtype = np.float32 if grid.exponent <= 0 else np.float64
        scale = dtype(math.ldexp(1.0, -grid.exponent))
        for start in range(0, flat.size, _BLOCK):
            index = np.multiply(flat[start : start + _BLOCK], scale, dtype=dtype)
            np.floor(index, out=index)
            k = index.astype(np.intp)
            k -= grid.first
            self.counts += np.bincount(k, minlength=grid.count)
        self.zeros += flat.size - int(np.count_nonzero(flat))

    def merge(self, other: Histogram) -> None:
        """Add the data of ``other``, which must have the same ``bins``."""
        if other.bins != self.bins:
            raise CalibrationError(f"histograms of {self.bins} and {other.bins} bins do not merge")
        self._cover(other.minimum, other.maximum)
        self.counts += _rebin(other.counts, other.grid, self.grid)
        self.zeros += other.zeros

    def quantile(self, share: float) -> float:
        """The value below which ``share`` (0 to 1) of the data lies; never beyond the extremes.

        Interpolated linearly in its bin; never decreasing in ``share``. Raises if there is no data.
        """
        occupied = np.flatnonzero(self.counts)
        if occupied.size == 0:
            raise CalibrationError("a quantile was asked of a histogram without data")
        counts = self.counts[occupied]
        cumulative = np.cumsum(counts)
        rank = share * float(cumulative[-1])
        i = min(int(np.searchsorted(cumulative, rank)), occupied.size - 1)
        inside = (rank - float(cumulative[i] - counts[i])) / float(counts[i])
        value = (self.grid.first + int(occupied[i]) + inside) * self.grid.width
        return min(max(value, self.minimum), self.maximum)

    def _cover(self, low: float, high: float) -> None:
        self.minimum, self.maximum = min(self.minimum, low), max(self.maximum, high)
        if self.minimum > self.maximum:
            return
        grid = grid_of(self.minimum, self.maximum, self.bins)
        if grid != self.grid:
            self.counts = _rebin(self.counts, self.grid, grid)
            self.grid = grid

    def state(self) -> dict[str, Any]:
        """Everything, as JSON values (of no data too: the extremes are then None)."""
        empty = self.minimum > self.maximum
        return {
            "bins": self.bins,
            "minimum": None if empty else self.minimum,
            "maximum": None if empty else self.maximum,
            "zeros": self.zeros,
            "counts": self.counts.tolist(),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Histogram:
        """The histogram that ``state()`` describes."""
        histogram = cls(state["bins"])
        if state["minimum"] is not None:
            histogram._cover(float(state["minimum"]), float(state["maximum"]))
        counts = np.asarray(state["counts"], np.int64)
        needed = histogram.grid.count
        if counts.shape != (needed,):
            raise CalibrationError(
                f"histogram state has counts of shape {counts.shape}; its extremes need ({needed},)"
            )
        histogram.counts = counts
        histogram.zeros = int(state["zeros"])
        return histogram


def _rebin(counts: I64, source: Grid, target: Grid) -> I64:
    """``counts`` on ``source`` moved to a grid that covers it and is as coarse or coarser."""
    # 62 shifts any index of a grid to 0 or -1 already; numpy leaves larger shifts undefined.
    shift = min(target.exponent - source.exponent, 62)
    k = (np.arange(source.count) + source.first) >> shift
    result = np.zeros(target.count, np.int64)
    np.add.at(result, k - target.first, counts)
    return result
