"""Ranges of weights with the least squared error: a search per row over shrunk ranges.

Of most candidates it is enough to know that they are not the best: float32 estimates of all errors,
with bounds of what they are off by, leave one or two per row whose error is computed in float64.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from uqfc.calibration.parameters import affine_parameters
from uqfc.numerics import F32, F64, I32

_BLOCK = 1 << 15
"""Elements searched at a time: the temporaries stay in the cache."""

_AT_ONCE = 12
"""Candidates estimated between checks for rows that shorter ranges cannot improve."""

_SPARE = 0.51
"""Steps by which a grid may reach beyond its range, as its zero point is rounded."""

_LONG = 1 << 14
"""Rows above this length are summed up in float64."""

_RATIOS = np.linspace(1.0, 0.3, 36)
"""Candidate shares of the full range; 2 per cent of it apart."""


def least_error_ranges(
    rows: F32, low: F32, high: F32, qmin: int, qmax: int, *, symmetric: bool
) -> tuple[F64, F64]:
    """Ends ``low`` and ``high`` [C] of the rows' [C, n] full ranges, shrunk for the least error.

    First both ends are shrunk alike; if asymmetric, then each on its own. Of equal errors the
    widest range counts.
    """
    step = max(1, _BLOCK // max(rows.shape[1], 1))
    ranges = np.stack([low, high]).astype(np.float64)
    limits = qmin, qmax
    for start in range(0, len(rows), step):
        x, ends = rows[start : start + step], ranges[:, start : start + step]
        least = np.full(len(x), np.inf)
        both = np.multiply.outer(_RATIOS, ends)
        _improve(x, ends, least, both, limits, symmetric)
        if symmetric:
            continue
        for side in (1, 0):
            one = np.repeat(ends[None], len(_RATIOS) - 1, axis=0)
            one[:, side] *= _RATIOS[1:, None]
            _improve(x, ends, least, one, limits, symmetric)
    return ranges[0], ranges[1]


def _improve(
    x: F32, ends: F64, least: F64, ranges: F64, limits: tuple[int, int], symmetric: bool
) -> None:
    """Replace ``ends`` [2, C] and their error ``least`` [C] by better ones of [candidates, 2, C].

    Each candidate's range lies within that of the one before.
    """
    scales, zero_points = affine_parameters(
        ranges[:, 0], ranges[:, 1], *limits, symmetric=symmetric
    )
    hopeful = _hopeful(x, least, ranges, scales, zero_points, limits)
    candidate, row = np.nonzero(hopeful)
    errors = np.full(hopeful.shape, np.inf)
    errors[candidate, row] = _squared_errors(
        x[row], scales[candidate, row], zero_points[candidate, row], limits
    )
    best, each = np.argmin(errors, axis=0), np.arange(len(x))
    better = each[errors[best, each] < least]
    best = best[better]
    least[better] = errors[best, better]
    ends[:, better] = ranges[best, :, better].T


def _hopeful(
    x: F32, least: F64, ranges: F64, scales: F32, zero_points: I32, limits: tuple[int, int]
) -> NDArray[np.bool_]:
    """Which candidates [candidates, C] may have an error that is below ``least`` and all others'.

    A shorter range clips more. A row whose error from clipping alone is above another's is dropped,
    where the ends of the range are taken to be as far out as its grid may have them.
    """
    lower, most = np.full(scales.shape, np.inf), np.sqrt(least)
    rows = np.arange(len(x))
    largest = np.abs(x).max(axis=1, initial=0.0)
    rounding = (x.shape[1] + 2) * 2.0**-23
    count = max(1, min(_AT_ONCE, _AT_ONCE * _BLOCK // max(x.size, 1)))
    for first in range(0, len(scales), count):
        some = slice(first, first + count)
        scale, zero_point = scales[some, rows], zero_points[some, rows]
        norms = _norms(_distances(x, scale, zero_point, limits)) * scale
        # Distances are off by less than 2**-21 of their values (in steps, and by that of one step
        # at least); their norm is off by no more than the norm of these errors.
        steps = largest[rows] / scale.astype(np.float64) + 1
        slack = 2.0**-21 * np.sqrt(x.shape[1]) * steps * scale + rounding * norms
        lower[some, rows] = norms - slack
        most[rows] = np.minimum(most[rows], np.min(norms + slack, axis=0))
        low, high = ranges[some][-1][:, rows] / scale[-1]
        bottom = np.minimum(low, limits[0] - zero_point[-1] - _SPARE).astype(np.float32)
        top = np.maximum(high, limits[1] - zero_point[-1] + _SPARE).astype(np.float32)
        clipped = _norms(_beyond(x, scale[-1], bottom, top)) * scale[-1]
        kept = clipped * (1 - rounding) <= most[rows]
        x, rows = x[kept], rows[kept]
        if not rows.size:
            break
    return ~(lower > most)


def _distances(x: F32, scale: F32, zero_point: I32, limits: tuple[int, int]) -> F32:
    """About the distances from the grids of [candidates, C], in steps; [candidates, C, n]."""
    below, above = ((end - zero_point).astype(np.float32)[:, :, None] for end in limits)
    u = x * (1 / scale)[:, :, None]
    level = np.rint(u)
    np.maximum(level, below, out=level)
    np.minimum(level, above, out=level)
    return np.subtract(u, level, out=u)


def _beyond(x: F32, scale: F32, low: F32, high: F32) -> F32:
    """How far the rows are out of their ranges, which are given in steps, as is this; [C, n]."""
    u = x * (1 / scale)[:, None]
    nearest = np.maximum(u, low[:, None])
    np.minimum(nearest, high[:, None], out=nearest)
    return np.subtract(nearest, u, out=nearest)


def _norms(rows: F32) -> F64:
    """Roots of the sums of squares over the last axis, which is overwritten if it is long."""
    if rows.shape[-1] > _LONG:
        return np.sqrt(np.square(rows, out=rows).sum(axis=-1, dtype=np.float64))
    return np.sqrt(np.einsum("...n,...n->...", rows, rows).astype(np.float64))


def _squared_errors(x: F32, scale: F32, zero_point: I32, limits: tuple[int, int]) -> F64:
    """Sum over each row of the squared rounding and clipping error."""
    column = scale[:, None]
    below, above = ((end - zero_point).astype(np.float32)[:, None] for end in limits)
    u = x / column
    np.maximum(u, below, out=u)
    np.minimum(u, above, out=u)
    np.rint(u, out=u)
    u *= column
    difference = np.subtract(u, x, dtype=np.float64)
    return np.square(difference, out=difference).sum(axis=1)
