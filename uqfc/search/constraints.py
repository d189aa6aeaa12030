"""What a configuration must have, and what it is wanted for."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from enum import StrEnum
from numbers import Real
from typing import Any

import numpy as np

from uqfc.errors import UqfcError
from uqfc.search.costs import F64
from uqfc.search.scores import Scores

_UNITS = {
    "latency": {"": 1.0, "ms": 1.0, "us": 1e-3, "µs": 1e-3, "ns": 1e-6, "s": 1e3},
    "size": {
        "": 1.0,
        "b": 1.0,
        "kb": 1e3,
        "mb": 1e6,
        "gb": 1e9,
        "kib": 1024.0,
        "mib": 1024.0**2,
        "gib": 1024.0**3,
    },
}
_QUANTITY = re.compile(r"\s*([0-9.eE+-]+?)\s*([a-zA-Zµ]*)\s*")


class Metric(StrEnum):
    """What is known of a configuration."""

    ACCURACY = "accuracy"
    """Share of right answers, 0..1."""
    LATENCY = "latency"
    """Of one call, in milliseconds."""
    SIZE = "size"
    """Of all constants that the artifact carries, in bytes."""


def quantity(value: Any, what: str) -> float:
    """Milliseconds of a ``latency`` (``0.1``, ``"100us"``), bytes of a ``size`` (``"1MB"``).

    Raises UqfcError for anything else, and for what is not positive and finite.
    """
    number: float | None = None
    units = _UNITS[what]
    if isinstance(value, str):
        match = _QUANTITY.fullmatch(value)
        if match and match[2].lower() in units:
            try:
                number = float(match[1]) * units[match[2].lower()]
            except ValueError:
                number = None
    elif not isinstance(value, bool) and isinstance(value, Real):
        number = float(value)
    if number is None or not (0 < number < math.inf):
        unit = "milliseconds" if what == "latency" else "bytes"
        accepted = ", ".join(name for name in units if name)
        raise UqfcError(
            f"{what} target: {value!r}; accepted: a positive number of {unit}, or with a unit "
            f"({accepted})"
        )
    return number


@dataclass(frozen=True)
class Constraints:
    """Limits; None: there is none. ``accuracy`` is the least, the others are the most."""

    accuracy: float | None = None
    latency: float | None = None
    size: float | None = None

    def __post_init__(self) -> None:
        if self.accuracy is not None and not 0 <= self.accuracy <= 1:
            raise UqfcError(
                f"accuracy constraint: {self.accuracy} cannot be met; accepted: a share of right "
                "answers, 0 to 1"
            )

    def limits(self) -> dict[Metric, float]:
        """Those that there are."""
        found = {
            Metric.ACCURACY: self.accuracy,
            Metric.LATENCY: self.latency,
            Metric.SIZE: self.size,
        }
        return {metric: limit for metric, limit in found.items() if limit is not None}

    def shortfalls(self, known: dict[Metric, F64]) -> dict[Metric, F64]:
        """By how much each limit is missed [n], in its metric's unit; below 0 where it is met.

        What is not known (NaN) misses its limit without bound.
        """
        found: dict[Metric, F64] = {}
        for metric, limit in self.limits().items():
            sign = -1.0 if metric == Metric.ACCURACY else 1.0
            missing = sign * (known[metric] - limit)
            found[metric] = np.where(np.isnan(missing), np.inf, missing)
        return found


@dataclass(frozen=True)
class Goal:
    """The best ``objective`` within the constraints: least size or latency, most accuracy."""

    constraints: Constraints
    objective: Metric

    def scores(self, known: dict[Metric, F64]) -> Scores:
        """Of n configurations. Objectives: the wanted one, then the others; violations: the sum of
        shortfalls, as shares of the limits (of the accuracy's: in points)."""
        order = [self.objective, *(m for m in Metric if m != self.objective and m in known)]
        columns = [(-known[m] if m == Metric.ACCURACY else known[m]) for m in order]
        points = np.stack([np.where(np.isnan(c), np.inf, c) for c in columns], axis=1)
        violation = np.zeros(len(points))
        for metric, missing in self.constraints.shortfalls(known).items():
            limit = self.constraints.limits()[metric]
            unit = 0.01 if metric == Metric.ACCURACY else limit
            violation += (missing / unit).clip(0)
        return Scores(points, violation)


def default_objective(constraints: Constraints) -> Metric:
    """The smallest that is accurate enough; without a bound of accuracy, the most accurate."""
    return Metric.ACCURACY if constraints.accuracy is None else Metric.SIZE
