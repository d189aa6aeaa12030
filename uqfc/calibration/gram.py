"""Second moments of a layer's inputs: Gram matrices, or the inputs where they are few. NumPy only.

``gram`` is the mean of ``x x^T`` over patches ``x`` of K elements, one matrix for each group of a
grouped layer. Of a few patches it has a low rank: whatever is asked of it is computed from them,
in a small share of the time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from uqfc.numerics import F32, F64

Indices = NDArray[np.intp]

_DAMPING = 0.01
"""Added to the diagonal of the Gram matrix before it is solved, as a share of the mean diagonal."""

_LEAF = 16
"""Columns rounded one by one, before their errors are spread to others by matrix products."""

_FEW, _PER_PATCH = 32, 8
"""Most patches that are kept, if there are that many elements for each."""


class Quadratic(Protocol):
    """The form ``e @ gram @ e`` of [groups, K, K]."""

    @property
    def diagonal(self) -> F64:
        """Of the Gram matrices, [groups, K]."""
        ...

    def times(self, error: F64) -> F64:
        """``error @ gram`` of [groups, n, K]."""
        ...

    def rows(self, group: Indices, index: Indices) -> F64:
        """Some rows of the Gram matrices, [n, K]."""
        ...

    def compensate(
        self, order: Indices, target: F64, errors: F64, round_one: Callable[[int], None]
    ) -> None:
        """Call ``round_one(0)`` to ``round_one(K - 1)``, each with the best target there is.

        ``order`` [groups, K]: which element is the first, the second and so on. ``target`` and
        ``errors`` are [K, groups, n] in that order. Targets start as the weights; before a call,
        its target is moved by what makes up for the errors so far, given that the elements after
        it will make up for them, too. A call sets the error: its level less the weight.
        """
        ...


class Dense:
    """Of matrices, [groups, K, K]."""

    def __init__(self, gram: F64) -> None:
        self._gram = gram

    @property
    def diagonal(self) -> F64:
        return np.einsum("gkk->gk", self._gram)

    def times(self, error: F64) -> F64:
        return error @ self._gram

    def rows(self, group: Indices, index: Indices) -> F64:
        return self._gram[group, index]

    def compensate(
        self, order: Indices, target: F64, errors: F64, round_one: Callable[[int], None]
    ) -> None:
        """By halves: errors of the first are spread over the second by one matrix product."""
        group = np.arange(len(order))[:, None, None]
        coupling = _couplings(self._gram[group, order[:, :, None], order[:, None, :]])
        coupling = np.ascontiguousarray(coupling.transpose(1, 2, 0))[..., None]

        def round_range(start: int, stop: int) -> None:
            if stop - start <= _LEAF:
                for i in range(start, stop):
                    round_one(i)
                    target[i + 1 : stop] -= coupling[i, i + 1 : stop] * errors[i]
                return
            middle = (start + stop) // 2
            round_range(start, middle)
            spread = coupling[start:middle, middle:stop, :, 0].transpose(2, 1, 0)
            made = spread @ errors[start:middle].transpose(1, 0, 2)
            target[middle:stop] -= made.transpose(1, 0, 2)
            round_range(middle, stop)

        round_range(0, len(target))


class Patches:
    """Of ``x^T x`` with a few rows ``x`` [n, K], of one group."""

    def __init__(self, x: F64) -> None:
        self._x = x

    @property
    def diagonal(self) -> F64:
        return np.square(self._x).sum(axis=0, keepdims=True)

    def times(self, error: F64) -> F64:
        return (error @ self._x.T) @ self._x

    def rows(self, group: Indices, index: Indices) -> F64:
        return self._x[:, index].T @ self._x

    def compensate(
        self, order: Indices, target: F64, errors: F64, round_one: Callable[[int], None]
    ) -> None:
        """With ``c`` what the outputs are off by so far, element ``i`` is best moved by
        ``-x[i] @ inv(damping + sum(x[j] x[j]^T for j >= i)) @ c``."""
        x = np.ascontiguousarray(self._x.T[order[0]])
        products = x[:, :, None] * x[:, None, :]
        remaining = np.cumsum(products[::-1], axis=0)[::-1]
        damped = remaining + _damping(self.diagonal) * np.eye(x.shape[1])
        shares = np.linalg.solve(damped, x[:, :, None])[:, :, 0]
        off = np.zeros((x.shape[1], target.shape[2]))
        for i in range(len(x)):
            target[i] -= shares[i] @ off
            round_one(i)
            off += x[i, :, None] * errors[i]


class GramAccumulator:
    """Streaming mean and mean of ``x x^T`` of patches; ``groups`` of them for grouped layers.

    Attributes:
        count: patches seen.
    """

    def __init__(self, k: int, groups: int = 1) -> None:
        self.count = 0
        self._sum: F64 = np.zeros((groups, k))
        self._kept: list[F64] = []
        self._gram: F64 | None = None

    def update(self, x: F32) -> None:
        """Take in ``n`` patches: [n, K], or [n, groups, K]."""
        groups, k = self._sum.shape
        self._add(x.reshape(-1, groups, k).transpose(1, 0, 2).astype(np.float64))

    def merge(self, other: GramAccumulator) -> None:
        """Take in what ``other`` has seen."""
        if other._gram is None:
            for rows in other._kept:
                self._add(rows)
            return
        self._gram = self._total() + other._gram
        self._kept.clear()
        self._sum += other._sum
        self.count += other.count

    @property
    def mean(self) -> F64:
        """Mean patch, [groups, K]."""
        return self._sum / max(self.count, 1)

    @property
    def gram(self) -> F64:
        """Mean of the outer products, [groups, K, K]."""
        return self._total() / max(self.count, 1)

    @property
    def quadratic(self) -> Quadratic:
        """The form of ``gram``."""
        if self._gram is not None or not self.count:
            return Dense(self.gram)
        return Patches(np.concatenate(self._kept, axis=1)[0] / np.sqrt(self.count))

    def _add(self, rows: F64) -> None:
        """Take in [groups, n, K]."""
        self._sum += rows.sum(axis=1)
        self.count += rows.shape[1]
        if self._gram is not None:
            self._gram += rows.transpose(0, 2, 1) @ rows
            return
        self._kept.append(rows)
        groups, k = self._sum.shape
        if groups > 1 or self.count > min(_FEW, k // _PER_PATCH):
            self._gram = self._total()
            self._kept.clear()

    def _total(self) -> F64:
        """Sum of the outer products, [groups, K, K]."""
        groups, k = self._sum.shape
        total = np.zeros((groups, k, k)) if self._gram is None else self._gram.copy()
        for rows in self._kept:
            total += rows.transpose(0, 2, 1) @ rows
        return total


def _damping(diagonal: F64) -> F64:
    """For each group of a diagonal [groups, K]; [groups]."""
    mean = diagonal.mean(axis=1) if diagonal.size else np.zeros(len(diagonal))
    return _DAMPING * np.where(mean > 0, mean, 1.0)


def _couplings(gram: F64) -> F64:
    """What a weight's error is made up for by those that follow; upper triangular [groups, K, K].

    With ``damped gram = R R^T``, R upper triangular, the loss of an error ``e`` is the sum of
    ``(R[i, i] e[i] + sum(R[j, i] e[j] for j < i))**2``: given those before, ``e[i]`` is best at
    minus the sum of ``R[j, i] / R[i, i] e[j]``. These quotients are the result.
    """
    damped = gram.copy()
    diagonal = np.einsum("gkk->gk", damped)
    damping = _damping(diagonal)
    while True:
        np.add(np.einsum("gkk->gk", gram), damping[:, None], out=diagonal)
        try:
            # The lower factor of the matrix in reversed order is R in reversed order.
            upper = np.linalg.cholesky(damped[:, ::-1, ::-1])[:, ::-1, ::-1]
            return np.asarray(upper / np.einsum("gkk->gk", upper)[:, None, :], np.float64)
        except np.linalg.LinAlgError:
            damping = damping * 10
