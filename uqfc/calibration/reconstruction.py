"""Rounding weights so that a layer's outputs, not its weights, come out closest. NumPy only.

The error of an output channel is ``e @ gram @ e`` with ``e`` the quantization error of its weights
and ``gram`` the mean of ``x x^T`` over its inputs. All in float64; the same inputs on the same
machine and BLAS give the same result.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uqfc.numerics import F32, F64, I32, quantize

_DAMPING = 0.01
"""Added to the diagonal of the Gram matrix for its inverse, as a share of the mean diagonal."""

_LEAF = 16
"""Columns rounded one by one, before their errors are spread to others by matrix products."""

_CERTAIN = 1.0 - 1e-12
"""A loss below this share of another is less however their sums are rounded."""

_MOST_STEPS = 32
"""Single steps of a row after compensation: the first ones bring nearly all of the gain."""

_INVERTED_AT_ONCE = 48
"""Size of the matrices that LAPACK inverts; larger ones are made of them by matrix products."""

_ROW_ELEMENTS = 1 << 16
"""Elements of the rows that are refined together: the temporaries stay in the cache."""


class GramAccumulator:
    """Streaming mean and mean of ``x x^T`` of patches; ``groups`` of them for grouped layers.

    Attributes:
        count: patches seen.
    """

    def __init__(self, k: int, groups: int = 1) -> None:
        self.count = 0
        self._sum: F64 = np.zeros((groups, k))
        self._gram: F64 = np.zeros((groups, k, k))

    def update(self, x: F32) -> None:
        """Take in ``n`` patches: [n, K], or [n, groups, K]."""
        groups, k = self._sum.shape
        rows = x.reshape(-1, groups, k).transpose(1, 0, 2).astype(np.float64)
        self._gram += rows.transpose(0, 2, 1) @ rows
        self._sum += rows.sum(axis=1)
        self.count += rows.shape[1]

    def merge(self, other: GramAccumulator) -> None:
        """Take in what ``other`` has seen."""
        self._gram += other._gram
        self._sum += other._sum
        self.count += other.count

    @property
    def mean(self) -> F64:
        """Mean patch, [groups, K]."""
        return self._sum / max(self.count, 1)

    @property
    def gram(self) -> F64:
        """Mean of the outer products, [groups, K, K]."""
        return self._gram / max(self.count, 1)


def reconstruction_error(w: F32 | F64, q: I32, scale: F32, zero_point: I32, gram: F64) -> F64:
    """``e @ gram @ e`` of each output channel, [O]; arguments as for ``adaptive_round``."""
    problem = _Problem(w, scale, zero_point, gram)
    return problem.losses((q - problem.zero_point) * problem.scale - problem.w)


def adaptive_round(
    w: F32 | F64, gram: F64, scale: F32, zero_point: I32, qmin: int, qmax: int
) -> I32:
    """Integers ``q`` [O, K] in ``[qmin, qmax]`` with a small ``reconstruction_error``.

    Columns are rounded in turn and each one's error is made up for by those not yet rounded
    (E. Frantar et al., "GPTQ", ICLR 2023, the largest diagonal first); then single weights are
    moved by one step, always the best of a row, at most ``_MOST_STEPS`` times. The error of no
    output channel is above that of rounding to nearest.

    - ``w``: weights [O, K]; the order of K is that of the patches in ``gram``.
    - ``gram``: [K, K], or [groups, K, K] where O is made of that many equal groups.
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

    def __init__(self, w: F32 | F64, scale: F32, zero_point: I32, gram: F64) -> None:
        self.w = np.asarray(w, np.float64)
        outputs, k = self.w.shape
        self.gram = np.asarray(gram, np.float64).reshape(-1, k, k)
        if outputs % len(self.gram):
            raise ValueError(f"{outputs} output channels in {len(self.gram)} groups")
        self.group_size = outputs // len(self.gram)
        self.scale = _to_rows(scale, self.w.shape)
        self.zero_point = _to_rows(zero_point, self.w.shape)

    def losses(self, error: F64) -> F64:
        """Each row of ``error`` [O, K] in its group's quadratic form."""
        return np.einsum("ok,ok->o", self.times_gram(error), error)

    def times_gram(self, error: F64) -> F64:
        grouped = error.reshape(len(self.gram), self.group_size, -1)
        return (grouped @ self.gram).reshape(error.shape)

    def solution(self, levels: F64) -> _Solution:
        error = levels * self.scale - self.w
        gradient = self.times_gram(error)
        return _Solution(levels, gradient, np.einsum("ok,ok->o", gradient, error))

    def compensate(self, low: F64, high: F64) -> F64:
        """Sequential rounding with compensation; levels.

        Columns are rows here, [groups, K, O / groups], so that what is done to one of them walks
        through memory. A range of columns is rounded by halves: the errors of the first half are
        spread over the second by one matrix product.
        """
        groups, k, _ = self.gram.shape
        order = np.argsort(-np.einsum("gkk->gk", self.gram), axis=1, kind="stable")
        group = np.arange(groups)[:, None, None]
        factor = _inverse_factor(self.gram[group, order[:, :, None], order[:, None, :]])

        def columns(rows: F64) -> F64:
            grouped = rows.reshape(groups, self.group_size, -1).transpose(0, 2, 1)
            return (
                grouped
                if grouped.shape[1] == 1
                else np.take_along_axis(grouped, order[:, :, None], axis=1)
            )

        w, scale, low, high = (columns(a) for a in (np.array(self.w), self.scale, low, high))
        scale, low, high = (np.broadcast_to(a, w.shape) for a in (scale, low, high))
        levels, errors = np.empty(w.shape), np.empty(w.shape)

        def round_one(i: int, stop: int) -> None:
            np.rint(w[:, i] / scale[:, i], out=levels[:, i])
            np.maximum(levels[:, i], low[:, i], out=levels[:, i])
            np.minimum(levels[:, i], high[:, i], out=levels[:, i])
            np.divide(w[:, i] - levels[:, i] * scale[:, i], factor[:, i, i, None], out=errors[:, i])
            w[:, i + 1 : stop] -= factor[:, i, i + 1 : stop, None] * errors[:, i, None]

        def round_range(start: int, stop: int) -> None:
            if stop - start <= _LEAF:
                for i in range(start, stop):
                    round_one(i, stop)
                return
            middle = (start + stop) // 2
            round_range(start, middle)
            spread = factor[:, start:middle, middle:stop].transpose(0, 2, 1)
            w[:, middle:stop] -= spread @ errors[:, start:middle]
            round_range(middle, stop)

        round_range(0, k)
        result = np.empty_like(levels)
        np.put_along_axis(result, order[:, :, None], levels, axis=1)
        return np.ascontiguousarray(result.transpose(0, 2, 1)).reshape(self.w.shape)

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
        diagonals = np.einsum("gkk->gk", self.gram)
        group = rows // self.group_size
        n, g = levels[rows], gradient[rows]
        scale, low, high = self.scale[rows], low[rows], high[rows]
        curvature = diagonals[group] * scale * scale
        # A gain must exceed the rounding errors of the gradient, or steps could go on for ever.
        enough = 1e-9 * np.max(curvature, axis=1, initial=0.0)
        for _ in range(_MOST_STEPS):
            if not rows.size:
                return
            each = np.arange(rows.size)
            # A step against the gradient changes the loss by curvature - 2 * scale * |gradient|.
            falling = g > 0
            stuck = np.where(falling, n <= low, n >= high)
            change = np.abs(g)
            change *= -2 * scale
            change += curvature
            change[stuck] = np.inf
            best = np.argmin(change, axis=1)
            moving = change[each, best] < -enough
            if not moving.all():
                done = rows[~moving]
                levels[done], gradient[done] = n[~moving], g[~moving]
                rows, group, best, enough = (
                    rows[moving],
                    group[moving],
                    best[moving],
                    enough[moving],
                )
                n, g, falling = n[moving], g[moving], falling[moving]
                scale, curvature = scale[moving], curvature[moving]
                low, high = low[moving], high[moving]
                each = each[: rows.size]
            step = np.where(falling[each, best], -1.0, 1.0)
            n[each, best] += step
            moved = step * np.broadcast_to(scale, n.shape)[each, best]
            g += moved[:, None] * self.gram[group, best]
        levels[rows], gradient[rows] = n, g


def _to_rows(parameter: F32 | I32, shape: tuple[int, ...]) -> F64:
    """[O, 1] for one number or one per output channel, else [O, K]."""
    p = np.asarray(parameter, np.float64)
    if p.ndim == 2:
        return np.broadcast_to(p, shape)
    return np.broadcast_to(p.reshape(-1, 1), (shape[0], 1))


def _inverse_factor(gram: F64) -> F64:
    """Upper triangular ``U`` with ``U^T U`` the inverse of the damped ``gram``; [groups, K, K]."""
    damped = gram.copy()
    diagonal = np.einsum("gkk->gk", damped)
    mean = diagonal.mean(axis=1) if diagonal.size else np.zeros(len(gram))
    damping = _DAMPING * np.where(mean > 0, mean, 1.0)
    while True:
        np.add(np.einsum("gkk->gk", gram), damping[:, None], out=diagonal)
        try:
            # Reversed, the lower factor becomes R with H = R R^T, R upper triangular: U = R^-1.
            lower = np.linalg.cholesky(damped[:, ::-1, ::-1])
            return _inverse_triangular(np.ascontiguousarray(lower[:, ::-1, ::-1], np.float64))
        except np.linalg.LinAlgError:
            damping = damping * 10


def _inverse_triangular(upper: F64) -> F64:
    """Of upper triangular matrices [groups, K, K], by halves: a third of the work of ``inv``."""
    k = upper.shape[-1]
    if k <= _INVERTED_AT_ONCE:
        return np.linalg.inv(upper).astype(np.float64)
    middle = k // 2
    first = _inverse_triangular(upper[:, :middle, :middle])
    last = _inverse_triangular(upper[:, middle:, middle:])
    result = np.zeros_like(upper)
    result[:, :middle, :middle], result[:, middle:, middle:] = first, last
    result[:, :middle, middle:] = -(first @ upper[:, :middle, middle:] @ last)
    return result
