"""Streaming, mergeable observers of the range of a tensor. O(bins) memory for any amount of data.

For every method but the moving average, the result depends on the multiset of the values alone:
not on their order, nor on how they are split over updates or over merged observers.
"""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import numpy as np

from uqfc.calibration.clipping import kl_range, mse_range
from uqfc.calibration.histogram import DEFAULT_BINS, Histogram
from uqfc.errors import CalibrationError
from uqfc.numerics import F32


class CalibrationMethod(StrEnum):
    """How the range of an activation is chosen from its values."""

    MINMAX = "minmax"
    MOVING_AVERAGE = "moving_average"
    PERCENTILE = "percentile"
    KL_DIVERGENCE = "kl_divergence"
    MSE = "mse"


class Observer(ABC):
    """Sees values of one tensor; gives the range that its quantization should cover."""

    method: CalibrationMethod
    empty = True

    def update(self, x: F32, *, name: str = "", sample: int | None = None) -> None:
        """Take in all elements of a float32 array of any shape.

        ``name`` (of the tensor) and ``sample`` (its index) only appear in the CalibrationError
        that a NaN or an infinity raises; the observer is unchanged then.
        """
        x = np.asarray(x, np.float32)
        if x.size == 0:
            return
        low, high = float(x.min()), float(x.max())  # NaN if any element is
        if not (math.isfinite(low) and math.isfinite(high)):
            raise CalibrationError(_not_finite(x, name, sample))
        self.empty = False
        self._add(x, low, high)

    def merge(self, other: Observer) -> None:
        """Take in what ``other`` has seen; it must have the same method and options."""
        if other.method != self.method or other.options() != self.options():
            raise CalibrationError(
                f"observers {self.method} {self.options()} and {other.method} {other.options()} "
                "do not merge; method and options must be equal"
            )
        if other.empty:
            return
        self._merge(other)
        self.empty = False

    def range(self, name: str = "") -> tuple[float, float]:
        """``(low, high)``; raises CalibrationError, naming the tensor, if nothing was seen."""
        if self.empty:
            raise CalibrationError(f"{_tensor(name)}: no calibration data has been observed")
        return self._range()

    def state(self) -> dict[str, Any]:
        """All of the observer as JSON values; ``from_state`` is the inverse."""
        data = {} if self.empty else self._data()
        return {"method": str(self.method), "options": self.options(), "data": data}

    @staticmethod
    def from_state(state: Mapping[str, Any]) -> Observer:
        """The observer that ``state()`` describes."""
        observer = make_observer(state["method"], **state["options"])
        if state["data"]:
            observer._restore(state["data"])
            observer.empty = False
        return observer

    @abstractmethod
    def options(self) -> dict[str, Any]:
        """The options of ``make_observer`` that make such an observer."""

    @abstractmethod
    def _add(self, x: F32, low: float, high: float) -> None: ...

    @abstractmethod
    def _merge(self, other: Any) -> None: ...  # of the same class

    @abstractmethod
    def _range(self) -> tuple[float, float]: ...

    @abstractmethod
    def _data(self) -> dict[str, Any]: ...

    @abstractmethod
    def _restore(self, data: Mapping[str, Any]) -> None: ...


class MinMaxObserver(Observer):
    """The extremes of all values."""

    method = CalibrationMethod.MINMAX

    def __init__(self) -> None:
        self.low, self.high = math.inf, -math.inf

    def options(self) -> dict[str, Any]:
        return {}

    def _add(self, x: F32, low: float, high: float) -> None:
        self.low, self.high = min(self.low, low), max(self.high, high)

    def _merge(self, other: Any) -> None:
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)

    def _range(self) -> tuple[float, float]:
        return self.low, self.high

    def _data(self) -> dict[str, Any]:
        return {"low": self.low, "high": self.high}

    def _restore(self, data: Mapping[str, Any]) -> None:
        self.low, self.high = float(data["low"]), float(data["high"])


class MovingAverageObserver(Observer):
    """Exponential moving average of the extremes of each update. **Depends on their order.**

    The first update sets the range; each later one moves it by ``rate`` of the difference. A merge
    is the mean of both ranges weighted by their numbers of updates.
    """

    method = CalibrationMethod.MOVING_AVERAGE

    def __init__(self, rate: float = 0.1) -> None:
        if not 0 < rate <= 1:
            raise CalibrationError(f"moving_average: rate is {rate}; accepted: 0 < rate <= 1")
        self.rate = rate
        self.low, self.high = 0.0, 0.0
        self.updates = 0

    def options(self) -> dict[str, Any]:
        return {"rate": self.rate}

    def _add(self, x: F32, low: float, high: float) -> None:
        self._move(low, high, self.rate if self.updates else 1.0)
        self.updates += 1

    def _merge(self, other: Any) -> None:
        self.updates += other.updates
        self._move(other.low, other.high, other.updates / self.updates)

    def _move(self, low: float, high: float, share: float) -> None:
        self.low = (1.0 - share) * self.low + share * low
        self.high = (1.0 - share) * self.high + share * high

    def _range(self) -> tuple[float, float]:
        return self.low, self.high

    def _data(self) -> dict[str, Any]:
        return {"low": self.low, "high": self.high, "updates": self.updates}

    def _restore(self, data: Mapping[str, Any]) -> None:
        self.low, self.high = float(data["low"]), float(data["high"])
        self.updates = int(data["updates"])


class HistogramObserver(Observer):
    """Base of the methods that need the distribution."""

    def __init__(self, bins: int = DEFAULT_BINS) -> None:
        self.histogram = Histogram(bins)

    def options(self) -> dict[str, Any]:
        return {"bins": self.histogram.bins}

    def _add(self, x: F32, low: float, high: float) -> None:
        self.histogram.update(x, low, high)

    def _merge(self, other: Any) -> None:
        self.histogram.merge(other.histogram)

    def _data(self) -> dict[str, Any]:
        return self.histogram.state()

    def _restore(self, data: Mapping[str, Any]) -> None:
        self.histogram = Histogram.from_state(data)


class PercentileObserver(HistogramObserver):
    """Drops the ``100 - percentile`` per cent of values at either end."""

    method = CalibrationMethod.PERCENTILE

    def __init__(self, percentile: float = 99.99, bins: int = DEFAULT_BINS) -> None:
        if not 50 < percentile <= 100:
            raise CalibrationError(
                f"percentile: percentile is {percentile}; accepted: above 50, up to 100"
            )
        super().__init__(bins)
        self.percentile = percentile

    def options(self) -> dict[str, Any]:
        return {"percentile": self.percentile, **super().options()}

    def _range(self) -> tuple[float, float]:
        share = self.percentile / 100
        return self.histogram.quantile(1 - share), self.histogram.quantile(share)


class _SearchObserver(HistogramObserver):
    """A search over ranges for a number of levels; ``symmetric`` gives ``(-t, t)``."""

    def __init__(
        self, levels: int = 256, symmetric: bool = False, bins: int = DEFAULT_BINS
    ) -> None:
        if not 2 <= levels <= 65536:
            raise CalibrationError(f"{self.method}: levels is {levels}; accepted: 2 to 65536")
        super().__init__(bins)
        self.levels, self.symmetric = levels, symmetric

    def options(self) -> dict[str, Any]:
        return {"levels": self.levels, "symmetric": self.symmetric, **super().options()}


class MseObserver(_SearchObserver):
    """The range with the least mean squared quantization error: ``clipping.mse_range``."""

    method = CalibrationMethod.MSE

    def _range(self) -> tuple[float, float]:
        return mse_range(self.histogram, self.levels, self.symmetric)


class KlObserver(_SearchObserver):
    """The range with the least Kullback-Leibler divergence: ``clipping.kl_range``."""

    method = CalibrationMethod.KL_DIVERGENCE

    def _range(self) -> tuple[float, float]:
        return kl_range(self.histogram, self.levels, self.symmetric)


_OBSERVERS: dict[CalibrationMethod, type[Observer]] = {
    cls.method: cls
    for cls in (MinMaxObserver, MovingAverageObserver, PercentileObserver, KlObserver, MseObserver)
}


def make_observer(method: str, **options: Any) -> Observer:
    """An observer by the name of its method.

    Options: ``rate`` (moving_average); ``percentile`` (percentile); ``levels`` and ``symmetric``
    (kl_divergence, mse); ``bins`` (the last three). Raises CalibrationError for others.
    """
    if method not in list(CalibrationMethod):
        raise CalibrationError(
            f"unknown calibration method '{method}'; accepted: {', '.join(CalibrationMethod)}"
        )
    cls = _OBSERVERS[CalibrationMethod(method)]
    accepted = list(inspect.signature(cls).parameters)
    unknown = [o for o in options if o not in accepted]
    if unknown:
        raise CalibrationError(
            f"{method}: unknown option(s) {', '.join(unknown)}; "
            f"accepted: {', '.join(accepted) or 'none'}"
        )
    return cls(**options)


def _tensor(name: str) -> str:
    return f"tensor '{name}'" if name else "tensor"


def _not_finite(x: F32, name: str, sample: int | None) -> str:
    bad = np.argwhere(~np.isfinite(x))
    at = tuple(int(i) for i in bad[0])
    where = "" if sample is None else f" in sample {sample}"
    return (
        f"{_tensor(name)}: {x[at]} at index {at}{where} ({len(bad)} of {x.size} elements are not "
        "finite); calibration needs finite values"
    )
