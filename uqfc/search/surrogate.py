"""What is predicted of a configuration, and how predictions follow true evaluations.

The predicted *loss* is a sum over layers and pairs of layers (``CostModel``), in the unit of the
sensitivity that it was made of. Two things make it an accuracy:

- ``DropCurve``: what accuracy a loss costs. The least-squares non-decreasing function of the loss
  (isotonic regression, by pool adjacent violators) through the true evaluations, linear between
  them, proportional beyond the last. It is fitted again after every batch. Being monotone, a limit
  on the accuracy is a limit on the loss, which keeps the exact optimum exact.
- ``Residuals``: what that curve misses for particular configurations, which no sum over layers can
  say. Kernel ridge regression, where two configurations are as near as the share of layers in which
  they agree, to the power of ``SHARPNESS``.

Size is a sum over layers that is exact (``uqfc.search.size``); latency is one that is measured by
layer, and moved by the median of what true measurements differ from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from uqfc.search.costs import F64, CostModel
from uqfc.search.space import Rows

SHARPNESS = 8
NOISE = 0.1
"""Variance of a measured accuracy beside that of a residual: what ridge regression adds."""
LEAST_LOSS = 1e-12
"""Predicted losses below it count as none: what they cost is the noise of a measurement."""


@dataclass(frozen=True)
class DropCurve:
    """Knots of a non-decreasing function, from (0, 0) on; losses increase."""

    losses: tuple[float, ...]
    drops: tuple[float, ...]

    def __call__(self, losses: F64) -> F64:
        """Predicted drops of accuracy, of the shape of ``losses``."""
        inside = np.interp(losses, self.losses, self.drops)
        last, drop = self.losses[-1], self.drops[-1]
        slope = drop / last if last > 0 else 0.0
        return np.where(losses > last, drop + slope * (losses - last), inside)

    def largest_loss(self, drop: float) -> float:
        """The largest loss that is predicted to cost at most ``drop``; infinite where any is, -1
        where none is, as not even a loss of zero costs so little."""
        if drop < 0:
            return -1.0
        last, most = self.losses[-1], self.drops[-1]
        if drop >= most:
            return last + (drop - most) * last / most if most > 0 else np.inf
        above = int(np.searchsorted(self.drops, drop, side="right"))
        low, high = self.drops[above - 1], self.drops[above]
        share = (drop - low) / (high - low)
        return self.losses[above - 1] + share * (self.losses[above] - self.losses[above - 1])


def fit_drop(losses: Sequence[float], drops: Sequence[float]) -> DropCurve:
    """Through predicted losses and true drops; negative ones count as zero.

    Without any drop, one of 1 is assumed for a loss of 1.
    """
    points = sorted(
        (max(0.0, x), max(0.0, y)) for x, y in zip(losses, drops, strict=True) if x > LEAST_LOSS
    )
    if not points:
        return DropCurve((0.0, 1.0), (0.0, 1.0))
    pools: list[list[float]] = []  # sums of losses and drops, and how many
    for x, y in points:
        pools.append([x, y, 1.0])
        while len(pools) > 1 and pools[-2][1] / pools[-2][2] >= pools[-1][1] / pools[-1][2]:
            last = pools.pop()
            pools[-1] = [a + b for a, b in zip(pools[-1], last, strict=True)]
    knots = {0.0: 0.0} | {x / n: y / n for x, y, n in pools}
    return DropCurve(tuple(knots), tuple(knots.values()))


class Residuals:
    """Of true drops, less those of a curve; ``rows`` [n, layers], ``values`` [n]."""

    def __init__(self, rows: Rows, values: F64) -> None:
        self.rows = rows
        self.weights = np.zeros(len(rows))
        scale = float(np.mean(values**2)) if len(values) else 0.0
        if scale > 0:
            gram = self.kernel(rows) + NOISE * np.eye(len(rows))
            self.weights = np.linalg.solve(gram, values)

    def kernel(self, rows: Rows) -> F64:
        """[n, known rows]: how alike two rows are, 0..1."""
        equal = (rows[:, None] == self.rows[None]).mean(axis=2)
        return equal**SHARPNESS

    def __call__(self, rows: Rows) -> F64:
        """Predicted residuals [n]."""
        if not len(self.rows):
            return np.zeros(len(rows))
        return self.kernel(rows) @ self.weights


@dataclass(frozen=True)
class Surrogate:
    """Costs of configurations; ``latency`` in milliseconds, ``size`` in bytes. Never changed:
    ``calibrated`` gives a new one."""

    loss: CostModel
    size: CostModel
    latency: CostModel | None = None
    curve: DropCurve = DropCurve((0.0, 1.0), (0.0, 1.0))
    residuals: Residuals | None = None

    def drop(self, rows: Rows) -> F64:
        """Predicted drop of accuracy [n]."""
        predicted = self.curve(self.loss(rows))
        return predicted if self.residuals is None else predicted + self.residuals(rows)

    def calibrated(self, rows: Rows, drops: F64, latencies: F64 | None = None) -> Surrogate:
        """With what true evaluations say: ``drops`` [n], ``latencies`` [n] in ms or NaN."""
        losses = self.loss(rows)
        curve = fit_drop(losses.tolist(), drops.tolist())
        latency = self.latency
        if latency is not None and latencies is not None and np.isfinite(latencies).any():
            known = np.isfinite(latencies)
            moved = float(np.median(latencies[known] - latency(rows[known])))
            latency = latency.plus(moved)
        residuals = Residuals(rows, drops - curve(losses))
        return Surrogate(self.loss, self.size, latency, curve, residuals)
