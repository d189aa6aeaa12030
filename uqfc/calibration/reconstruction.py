"""Rounding weights so that a layer's outputs, not its weights, come out closest. NumPy only.

The error of an output channel is ``e @ gram @ e`` with ``e`` the quantization error of its weights
and ``gram`` the mean of ``x x^T`` over its inputs. All in float64; the same inputs on the same
machine and BLAS give the same result.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from uqfc.numerics import F32, F64, I32, quantize

_DAMPING = 0.01
"""Added to the diagonal of the Gram matrix for its inverse, as a share of the mean diagonal."""

_COLUMNS = 64
"""Columns rounded before their errors are spread to the rest by one matrix product."""

_MOST_STEPS = 32
"""Single steps of a row after compensation: the first ones bring nearly all of the gain."""
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
    levels = nearest - problem.zero_point
    loss = problem.losses(levels * problem.scale - problem.w)

    def keep_better(candidate: F64) -> None:
        # Losses are compared as computed: "never worse" holds whatever the sums' rounding errors.
        nonlocal levels, loss
        error = problem.losses(candidate * problem.scale - problem.w)
        levels = np.where((error < loss)[:, None], candidate, levels)
        loss = np.minimum(error, loss)

    keep_better(problem.compensate(low, high))
    keep_better(problem.refine(levels, low, high))
    return (levels + problem.zero_point).astype(np.int32)


class _Problem:
    """Weights and Gram matrices; ``levels`` are float64 ``q - zero_point``, [O, K]."""

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

    def compensate(self, low: F64, high: F64) -> F64:
        """Sequential rounding with compensation; levels."""
        groups, k, _ = self.gram.shape
        order = np.argsort(-np.einsum("gkk->gk", self.gram), axis=1, kind="stable")
        sorted_gram = np.take_along_axis(self.gram, order[:, :, None], axis=1)
        factor = _inverse_factor(np.take_along_axis(sorted_gram, order[:, None, :], axis=2))
        row_order = np.repeat(order, self.group_size, axis=0)
        shape = (groups, self.group_size, k)
        w, scale, low, high = (
            np.take_along_axis(a, row_order, axis=1).reshape(shape)
            for a in (self.w, self.scale, low, high)
        )
        levels = np.empty(shape)
        for start in range(0, k, _COLUMNS):
            stop = min(start + _COLUMNS, k)
            errors = np.empty((groups, self.group_size, stop - start))
            for i in range(start, stop):
                rounded = np.clip(np.rint(w[..., i] / scale[..., i]), low[..., i], high[..., i])
                levels[..., i] = rounded
                error = (w[..., i] - rounded * scale[..., i]) / factor[:, None, i, i]
                w[..., i:stop] -= error[..., None] * factor[:, None, i, i:stop]
                errors[..., i - start] = error
            w[..., stop:] -= errors @ factor[:, start:stop, stop:]
        result = np.empty_like(self.w)
        np.put_along_axis(result, row_order, levels.reshape(self.w.shape), axis=1)
        return result

    def refine(self, levels: F64, low: F64, high: F64) -> F64:
        """Greedy steps of ±1, each of which lowers the loss of its row."""
        levels = levels.copy()
        gradient = self.times_gram(levels * self.scale - self.w)
        size = max(1, _ROW_ELEMENTS // max(levels.shape[1], 1))
        for start in range(0, len(levels), size):
            rows = np.arange(start, min(start + size, len(levels)))
            self._refine_rows(rows, levels, gradient, low, high)
        return levels

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
            direction = np.where(g > 0, -1.0, 1.0)
            change = curvature - 2 * scale * np.abs(g)
            stepped = n + direction
            change[(stepped < low) | (stepped > high)] = np.inf
            best = np.argmin(change, axis=1)
            each = np.arange(rows.size)
            moving = change[each, best] < -enough
            levels[rows[~moving]] = n[~moving]
            if not moving.all():
                rows, group, best, enough = (
                    rows[moving],
                    group[moving],
                    best[moving],
                    enough[moving],
                )
                n, g, direction = n[moving], g[moving], direction[moving]
                scale, curvature = scale[moving], curvature[moving]
                low, high = low[moving], high[moving]
                each = each[: rows.size]
            step = direction[each, best]
            n[each, best] += step
            g += (step * scale[each, best])[:, None] * self.gram[group, best]
        levels[rows] = n


def _to_rows(parameter: F32 | I32, shape: tuple[int, ...]) -> F64:
    p = np.asarray(parameter, np.float64)
    return np.broadcast_to(p[:, None] if p.ndim == 1 else p, shape)


def _inverse_factor(gram: F64) -> F64:
    """Upper triangular ``U`` with ``U^T U`` the inverse of the damped ``gram``; [groups, K, K]."""
    k = gram.shape[-1]
    mean = np.einsum("gkk->g", gram) / max(k, 1)
    damping = _DAMPING * np.where(mean > 0, mean, 1.0)
    while True:
        damped = gram + damping[:, None, None] * np.eye(k)
        try:
            # Reversed, the lower factor becomes R with H = R R^T, R upper triangular: U = R^-1.
            lower = np.linalg.cholesky(damped[:, ::-1, ::-1])
            return np.linalg.inv(lower[:, ::-1, ::-1]).astype(np.float64)
        except np.linalg.LinAlgError:
            damping = damping * 10
