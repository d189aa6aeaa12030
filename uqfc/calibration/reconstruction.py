"""Rounding weights so that a layer's outputs, not its weights, come out closest. NumPy only.

The error of an output channel is ``e @ gram @ e`` with ``e`` the quantization error of its weights
and ``gram`` the mean of ``x x^T`` over its inputs. All in float64; the same inputs on the same
machine and BLAS give the same result.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uqfc.calibration.gram import Dense, Quadratic
from uqfc.numerics import F32, F64, I32, quantize

_CERTAIN = 1.0 - 1e-12
"""A loss below this share of another is less however their sums are rounded."""

_MOST_STEPS = 32
"""Single steps of a row after compensation: the first ones bring nearly all of the gain."""

_MOVING = 0.75
"""Share of rows that still move, below which the others are put aside."""

_ROW_ELEMENTS = 1 << 16
"""Elements of the rows that are refined together: the temporaries stay in the cache."""


def reconstruction_error(
    w: F32 | F64, q: I32, scale: F32, zero_point: I32, gram: F64 | Quadratic
) -> F64:
    """``e @ gram @ e`` of each output channel, [O]; arguments as for ``adaptive_round``."""
    problem = _Problem(w, scale, zero_point, gram)
    return problem.losses((q - problem.zero_point) * problem.scale - problem.w)


def adaptive_round(
    w: F32 | F64, gram: F64 | Quadratic, scale: F32, zero_point: I32, qmin: int, qmax: int
) -> I32:
    """Integers ``q`` [O, K] in ``[qmin, qmax]`` with a small ``reconstruction_error``.

    Columns are rounded in turn and each one's error is made up for by those not yet rounded
    (E. Frantar et al., "GPTQ", ICLR 2023, the largest diagonal first); then single weights are
    moved by one step, always the best of a row, at most ``_MOST_STEPS`` times. The error of no
    output channel is above that of rounding to nearest.

    - ``w``: weights [O, K]; the order of K is that of the patches in ``gram``.
    - ``gram``: [K, K], or [groups, K, K] where O is made of that many equal groups; or its form
      (``GramAccumulator.quadratic``), which is faster where patches are few.
    - ``scale``, ``zero_point``: broadcast to [O, K]; vectors of O are per output channel.
    """
    problem = _Problem(w, scale, zero_point, gram)
    nearest = quantize(
        np.asarray(w, np.float32),
        problem.scale.astype(np.float32),
        problem.zero_point.astype(np.int32),
        qmin,
        qmax,
    )
    low, high = qmin - problem.zero_point, qmax - problem.zero_point
    solution = problem.solution(nearest - problem.zero_point)
    better = problem.solution(problem.compensate(low, high))
    # Losses are compared as computed: "never worse" holds whatever the sums' rounding errors.
    solution.replace(better, better.loss < solution.loss)
    better = problem.refine(solution, low, high)
    solution.replace(better, better.loss < solution.loss * _CERTAIN)
    return (solution.levels + problem.zero_point).astype(np.int32)


@dataclass
class _Solution:
    """``levels`` are float64 ``q - zero_point`` [O, K], ``gradient`` their error times the Gram
    matrix [O, K] and ``loss`` the quadratic form [O]."""

    levels: F64
    gradient: F64
    loss: F64

    def replace(self, other: _Solution, rows: NDArray[np.bool_]) -> None:
        """Take the rows of ``other`` where ``rows`` is true."""
        for mine, theirs in zip(
            (self.levels, self.gradient, self.loss),
            (other.levels, other.gradient, other.loss),
            strict=True,
        ):
            mine[rows] = theirs[rows]


class _Problem:
    """Weights [O, K], Gram matrices [groups, K, K] and parameters that broadcast to [O, K]."""

    def __init__(self, w: F32 | F64, scale: F32, zero_point: I32, gram: F64 | Quadratic) -> None:
        self.w = np.asarray(w, np.float64)
        outputs, k = self.w.shape
        self.form: Quadratic = (
            Dense(np.asarray(gram, np.float64).reshape(-1, k, k))
            if isinstance(gram, np.ndarray)
            else gram
        )
        self.groups = len(self.form.diagonal)
        if outputs % self.groups:
            raise ValueError(f"{outputs} output channels in {self.groups} groups")
        self.group_size = outputs // self.groups
        self.scale = _to_rows(scale, self.w.shape)
        self.zero_point = _to_rows(zero_point, self.w.shape)

    def losses(self, error: F64) -> F64:
        """Each row of ``error`` [O, K] in its group's quadratic form."""
        return np.einsum("ok,ok->o", self.times_gram(error), error)

    def times_gram(self, error: F64) -> F64:
        grouped = error.reshape(self.groups, self.group_size, -1)
        return self.form.times(grouped).reshape(error.shape)

    def solution(self, levels: F64) -> _Solution:
        error = levels * self.scale - self.w
        gradient = self.times_gram(error)
        return _Solution(levels, gradient, np.einsum("ok,ok->o", gradient, error))

    def compensate(self, low: F64, high: F64) -> F64:
        """Sequential rounding with compensation; levels.

        Columns are [K, groups, O / groups] here, so that what is done to one of them walks through
        memory.
        """
        order = np.argsort(-self.form.diagonal, axis=1, kind="stable")

        def columns(rows: F64) -> F64:
            grouped = rows.reshape(self.groups, self.group_size, -1).transpose(2, 0, 1)
            return (
                grouped
                if len(grouped) == 1
                else np.take_along_axis(grouped, order.T[:, :, None], axis=0)
            )

        w, scale, low, high = (columns(a) for a in (self.w, self.scale, low, high))
        scale, low, high = (np.broadcast_to(a, w.shape) for a in (scale, low, high))
        target, levels, errors = w.copy(), np.empty(w.shape), np.empty(w.shape)

        def round_one(i: int) -> None:
            level, error = levels[i], errors[i]
            np.divide(target[i], scale[i], out=level)
            np.rint(level, out=level)
            np.maximum(level, low[i], out=level)
            np.minimum(level, high[i], out=level)
            np.multiply(level, scale[i], out=error)
            error -= w[i]

        self.form.compensate(order, target, errors, round_one)
        result = np.empty_like(levels)
        np.put_along_axis(result, order.T[:, :, None], levels, axis=0)
        return np.ascontiguousarray(result.transpose(1, 2, 0)).reshape(self.w.shape)

    def refine(self, start: _Solution, low: F64, high: F64) -> _Solution:
        """Greedy steps of ±1, each of which lowers the loss of its row."""
        levels, gradient = start.levels.copy(), start.gradient.copy()
        size = max(1, _ROW_ELEMENTS // max(levels.shape[1], 1))
        for first in range(0, len(levels), size):
            rows = np.arange(first, min(first + size, len(levels)))
            self._refine_rows(rows, levels, gradient, low, high)
        error = levels * self.scale - self.w
        return _Solution(levels, gradient, np.einsum("ok,ok->o", gradient, error))

    def _refine_rows(
        self, rows: NDArray[np.intp], levels: F64, gradient: F64, low: F64, high: F64
    ) -> None:
        group = rows // self.group_size
        n, g = levels[rows], gradient[rows]
        scale, low, high = self.scale[rows], low[rows], high[rows]
        curvature = self.form.diagonal[group] * scale * scale
        # A gain must exceed the rounding errors of the gradient, or steps could go on for ever.
        enough = 1e-9 * np.max(curvature, axis=1, initial=0.0)
        for _ in range(_MOST_STEPS):
            each = np.arange(rows.size)
            # A step against the gradient changes the loss by curvature - 2 * scale * |gradient|.
            change = np.abs(g)
            change *= -2 * scale
            change += curvature
            best = np.argmin(change, axis=1)
            at_best = (a[each, best] for a in (n, g, *np.broadcast_arrays(low, high, n)[:2]))
            stuck = np.flatnonzero(_stuck(*at_best))
            if stuck.size:
                free = change[stuck]
                free[_stuck(n[stuck], g[stuck], low[stuck], high[stuck])] = np.inf
                change[stuck], best[stuck] = free, np.argmin(free, axis=1)
            moving = change[each, best] < -enough
            if not moving.any():
                break
            step = np.where(g[each, best] > 0, -1.0, 1.0) * moving
            n[each, best] += step
            moved = step * np.broadcast_to(scale, n.shape)[each, best]
            g += moved[:, None] * self.form.rows(group, best)
            if np.count_nonzero(moving) < _MOVING * rows.size:
                levels[rows], gradient[rows] = n, g
                rows, group, enough = rows[moving], group[moving], enough[moving]
                n, g, scale, curvature = n[moving], g[moving], scale[moving], curvature[moving]
                low, high = low[moving], high[moving]
        levels[rows], gradient[rows] = n, g


def _stuck(n: F64, g: F64, low: F64, high: F64) -> NDArray[np.bool_]:
    """Where a step against the gradient would leave the range."""
    return np.where(g > 0, n <= low, n >= high)


def _to_rows(parameter: F32 | I32, shape: tuple[int, ...]) -> F64:
    """[O, 1] for one number or one per output channel, else [O, K]."""
    p = np.asarray(parameter, np.float64)
    if p.ndim == 2:
        return np.broadcast_to(p, shape)
    return np.broadcast_to(p.reshape(-1, 1), (shape[0], 1))
