"""Domination: ``a`` dominates ``b`` where no objective of it is greater and one is less."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from uqfc.search.costs import F64

Mask: TypeAlias = NDArray[np.bool_]


def dominates(a: F64, b: F64) -> Mask:
    """[n, m]: whether row i of ``a`` [n, objectives] dominates row j of ``b`` [m, objectives]."""
    one, other = a[:, None], b[None]
    never_more: Mask = np.asarray((one <= other).all(axis=2))
    return never_more & np.asarray((one < other).any(axis=2))


def non_dominated(points: F64) -> Mask:
    """[n]: which of ``points`` [n, objectives], to be minimized, no other one dominates."""
    return ~np.asarray(dominates(points, points).any(axis=0))


def ranks(points: F64, violation: F64) -> NDArray[np.int64]:
    """[n]: 0 for the first front, 1 for what only that dominates, and so on.

    Where limits are violated (``violation`` [n] above 0), less of it dominates more, and a row
    without dominates one with it, whatever the objectives (Deb et al., NSGA-II, section VI).
    """
    fine = violation <= 0
    beaten = dominates(points, points) & fine[:, None] & fine[None]
    beaten |= violation[:, None].clip(0) < violation[None].clip(0)
    found = np.full(len(points), -1)
    rank = 0
    while (found < 0).any():
        open_ = found < 0
        front = open_ & ~(beaten & open_[:, None]).any(axis=0)
        found[front] = rank
        rank += 1
    return found


def crowding(points: F64) -> F64:
    """[n]: how far a point's neighbours in each objective are apart; the ends' is infinite."""
    total = np.zeros(len(points))
    for values in points.T:
        order = np.argsort(values, kind="stable")
        span = values[order[-1]] - values[order[0]]
        total[order[[0, -1]]] = np.inf
        if span > 0:
            total[order[1:-1]] += (values[order[2:]] - values[order[:-2]]) / span
    return total
