"""Which range of a histogram to keep: the search behind the MSE and KL observers.

Both score windows ``[a, b)`` of bins that contain zero. The candidates of a side are its extent
divided by powers of ``2**(1/8)``; all windows of equal shrinkage are tried first, then each side
alone. Ties go to the wider window. O(bins * candidates) time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from uqfc.calibration.histogram import Histogram
from uqfc.calibration.parameters import affine_parameters
from uqfc.numerics import F64, I32

I64 = NDArray[np.int64]
Window = tuple[int, int]
"""Bins ``a <= k < b`` that are kept, with ``a <= 0 <= b``."""
Scores = Callable[[Sequence[Window]], Sequence[float] | F64]
"""Costs of some windows; lower is better."""

_BLOCK = 1 << 15
"""Edges that are looked at together, for some windows: the temporaries stay in the cache."""

_SHRINK = 2.0 ** (-np.arange(65) / 8)
"""Candidate fractions of the full extent: 1 down to 1/256, nine per cent apart."""


def mse_range(histogram: Histogram, levels: int, symmetric: bool) -> tuple[float, float]:
    """The range with the least mean squared quantization error.

    Values are taken as uniform within a bin (exact zeros as zeros), and the error of a bin is
    integrated in closed form over the very grid that ``affine_parameters`` gives, so that bins
    wider than a step are judged right as well.
    """
    edges = np.clip(histogram.grid.edges, histogram.minimum, histogram.maximum)
    widths = np.diff(edges)
    mass = _nonzero_counts(histogram).astype(np.float64)
    at = (widths == 0) & (mass > 0)
    points, point_mass = edges[:-1][at], mass[at]
    # The sum over bins of density * (F(right) - F(left)) as one over edges, F the antiderivative:
    # an edge between equal densities (of empty bins, mostly) does not count.
    density = np.divide(mass, widths, out=np.zeros_like(mass), where=widths > 0)
    weight = -np.diff(density, prepend=0.0, append=0.0)
    edges, weight = edges[weight != 0], weight[weight != 0]
    qmax = levels - 1

    def scores(windows: Sequence[Window]) -> F64:
        ranges = np.array([_window_range(histogram, a, b, symmetric) for a, b in windows])
        scale, zero_point = affine_parameters(
            ranges[:, 0], ranges[:, 1], 0, qmax, symmetric=symmetric
        )
        step = scale.astype(np.float64)
        count = max(1, _BLOCK // max(edges.size, 1))
        total = np.empty(len(windows))
        for start in range(0, len(windows), count):
            some = slice(start, start + count)
            level, distance = _nearest(edges, step[some], zero_point[some], qmax)
            # F in steps is level / 12 + distance**3 / 3, the integral of the squared distance.
            level /= 12
            level += distance * distance * distance / 3
            total[some] = level @ weight * step[some]
        _, distance = _nearest(points, step, zero_point, qmax)
        return (total + distance**2 @ point_mass) * step * step

    return _search(histogram, scores, 1, symmetric)


def _nearest(x: F64, step: F64, zero_point: I32, qmax: int) -> tuple[F64, F64]:
    """Nearest level to ``x`` [n] and the distance from it, in steps; [windows, n] each."""
    u = x / step[:, None]
    level = np.rint(u)
    bottom = -zero_point[:, None].astype(np.float64)
    np.maximum(level, bottom, out=level)
    np.minimum(level, bottom + qmax, out=level)
    return level, np.subtract(u, level, out=u)


def kl_range(histogram: Histogram, levels: int, symmetric: bool) -> tuple[float, float]:
    """The range whose quantized distribution diverges least from the clipped one.

    S. Migacz, "8-bit inference with TensorRT" (GTC 2017), for any range that holds zero, with
    exact zeros left out: they would outweigh everything after a ReLU. Windows have at least
    ``levels`` bins, if there are so many.
    """
    counts = _nonzero_counts(histogram)
    first = histogram.grid.first

    def score(window: Window) -> float:
        a, b = window
        padded = _window(counts, a - first, b - first)
        lost_below = int(counts[: max(a - first, 0)].sum())
        lost_above = int(counts[max(b - first, 0) :].sum())
        return _divergence(padded, lost_below, lost_above, levels)

    return _search(
        histogram, lambda windows: [score(window) for window in windows], levels, symmetric
    )


def _nonzero_counts(histogram: Histogram) -> I64:
    counts = histogram.counts.copy()
    counts[-histogram.grid.first] -= histogram.zeros
    return counts


def _window(counts: I64, start: int, stop: int) -> I64:
    """``counts[start:stop]``, zero outside of the array."""
    inside = counts[max(start, 0) : max(stop, 0)]
    after = stop - max(start, 0) - inside.size
    return np.pad(inside, (max(-start, 0), max(after, 0)))


def _divergence(window: I64, below: int, above: int, levels: int) -> float:
    """KL(P || Q): P has the outliers in its end bins, Q is the window averaged per level."""
    p = window.astype(np.float64)
    p[0] += below
    p[-1] += above
    present = p > 0
    kept, total = float(window.sum()), float(p.sum())
    if total == 0:
        return 0.0
    if kept == 0:
        return float("inf")
    level = (np.arange(p.size) * levels) // p.size
    members = np.bincount(level, present, minlength=levels)
    mean = np.bincount(level, window, minlength=levels) / np.maximum(members, 1)
    q = mean[level][present] / kept
    p = p[present] / total
    # Outliers may sit where the window itself is empty: an absent level is a rare one, not never.
    return float(np.sum(p * np.log(p / np.maximum(q, 1e-9))))


def _search(
    histogram: Histogram, scores: Scores, least: int, symmetric: bool
) -> tuple[float, float]:
    grid = histogram.grid
    low, high = grid.first, grid.first + grid.count
    if symmetric:
        extent = max(-low, high)
        windows = [(-t, t) for t in _candidates(extent, (least + 1) // 2)]
        a, b = windows[int(np.argmin(scores(windows)))]
        return _window_range(histogram, a, b, symmetric)

    def best(windows: list[Window]) -> Window:
        wide_enough = [w for w in windows if w[1] - w[0] >= least] or windows[:1]
        return wide_enough[int(np.argmin(scores(wide_enough)))]

    a, b = best(
        list(
            dict.fromkeys(
                (-below, above) for below, above in zip(_shrunk(-low), _shrunk(high), strict=True)
            )
        )
    )
    if low < 0:

        @cache
        def above(a: int) -> int:
            return best([(a, t) for t in _candidates(high, 1)])[1]

        @cache
        def below(b: int) -> int:
            return best([(-t, b) for t in _candidates(-low, 1)])[0]

        # Twice, because moving one end changes where the other should be.
        for _ in range(2):
            b = above(a)
            a = below(b)
    return _window_range(histogram, a, b, symmetric)


def _candidates(extent: int, least: int) -> list[int]:
    """Distinct sizes from ``extent`` down to ``least``, the largest first."""
    return [size for size in dict.fromkeys(_shrunk(extent)) if size >= least] or [extent]


def _shrunk(extent: int) -> list[int]:
    return [int(size) for size in np.ceil(extent * _SHRINK)]


def _window_range(histogram: Histogram, a: int, b: int, symmetric: bool) -> tuple[float, float]:
    """Real ends of a window, no further out than the data."""
    width = histogram.grid.width
    if symmetric:
        reach = min(b * width, max(abs(histogram.minimum), abs(histogram.maximum)))
        return -reach, reach
    low, high = max(a * width, histogram.minimum), min(b * width, histogram.maximum)
    return low, max(low, high)
