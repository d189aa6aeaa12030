"""Scales and zero points of an entry that stands beside a float model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from uqfc.dialects.quant import STORAGE_RANGES
from uqfc.errors import UqrError
from uqfc.frontend.uqr.document import ActivationQuant, Op, WeightQuant
from uqfc.frontend.uqr.dtypes import STORAGES, Range, default_range, middle
from uqfc.numerics import F32, I32

Fail: TypeAlias = Callable[[Op, str], UqrError]


@dataclass(frozen=True)
class Parameters:
    """Of one tensor; arrays have one value for each channel, or one."""

    storage: str
    limits: Range
    scale: F32
    zero_point: I32


def parameters_of(
    fail: Fail, op: Op, quant: WeightQuant | ActivationQuant, count: int
) -> Parameters:
    """``count`` scales and zero points. What is wrong is raised as ``fail(op, message)``."""
    is_weight = isinstance(quant, WeightQuant)
    field = "weight_quant" if is_weight else "activation_quant"
    given = quant.range if is_weight else quant.integer_range
    for name in ("tensor", "axis", "block_size"):
        if getattr(quant, name) is not None:
            raise fail(op, f"{field}.{name}: has no meaning beside a float model")
    if quant.granularity == "per_block":
        what = "'per_block'; accepted: 'per_channel', 'per_tensor'"
        raise fail(op, f"{field}.granularity: {what}")
    storages = STORAGES.get(quant.dtype)
    if storages is None:
        what = f"'{quant.dtype}'; accepted: {', '.join(STORAGES)}, float32"
        raise fail(op, f"{field}.dtype: {what}")
    low, high = default_range(quant.dtype, storages[0]) if given is None else given
    fitting = [s for s in storages if STORAGE_RANGES[s][0] <= low < high <= STORAGE_RANGES[s][1]]
    if not fitting:
        name = "range" if isinstance(quant, WeightQuant) else "integer_range"
        accepted = " or ".join(str(list(STORAGE_RANGES[s])) for s in storages)
        what = f"{[low, high]}; accepted: ascending integers within {accepted}"
        raise fail(op, f"{field}.{name}: {what}")
    storage, limits = fitting[0], (low, high)
    scale, zero = scale_of(fail, op, quant, field, storage, limits)
    for name, values in (("scale", scale), ("zero_point", zero)):
        if len(values) != count:
            raise fail(op, f"{field}.{name}: {len(values)} values; accepted: {count}")
    wrong = [z for z in zero if not low <= z <= high]
    if wrong:
        what = f"{wrong[0]}; accepted: integers from {low} to {high}"
        raise fail(op, f"{field}.zero_point: {what}")
    centre = middle(storage)
    if quant.symmetric is not None and quant.symmetric != all(z == centre for z in zero):
        what = f"{quant.symmetric}, but the zero points are {'not ' * quant.symmetric}all {centre}"
        raise fail(op, f"{field}.symmetric: {what}")
    return Parameters(storage, limits, scale, np.asarray(zero, np.int32))


def scale_of(
    fail: Fail,
    op: Op,
    quant: WeightQuant | ActivationQuant,
    field: str,
    storage: str,
    limits: Range,
) -> tuple[F32, list[int]]:
    """As given, or from the real range of an activation."""
    centre = middle(storage)
    if quant.scale is not None:
        if quant.zero_point is None and not quant.symmetric:
            raise fail(op, f"{field}.zero_point: is missing")
        zeros = quant.zero_point or [centre] * len(quant.scale)
        return np.asarray(quant.scale, np.float32), zeros
    bounds = quant.range if isinstance(quant, ActivationQuant) else None
    if bounds is None:
        what = "is missing" if isinstance(quant, WeightQuant) else "is missing, and so is range"
        raise fail(op, f"{field}.scale: {what}")
    if quant.zero_point is not None:
        raise fail(op, f"{field}.zero_point: given without scale")
    low, high = (float(v) for v in bounds)
    if not low <= 0 <= high or low == high:
        what = f"{[low, high]}; accepted: two numbers around 0"
        raise fail(op, f"{field}.range: {what}")
    if quant.symmetric:
        step = max(high / (limits[1] - centre), low / (limits[0] - centre))
        return np.asarray([step], np.float32), [centre]
    scale = np.asarray([(high - low) / (limits[1] - limits[0])], np.float32)
    zero = np.rint(limits[0] - low / float(scale[0]))
    return scale, [int(np.clip(zero, *limits))]
