"""Reshape and transpose of constants, quantized ones included."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from uqfc.dialects.quant import block_grid
from uqfc.dialects.tensors import Array
from uqfc.frontend.values import Constant, Quantized, Value


def moved(
    x: Value, move: Callable[[Array], Array], new_axis: Callable[[int], int] | None
) -> Value | None:
    """The constant ``move(x)``, or None where an op is needed.

    ``new_axis`` says where an axis of ``x`` went; None if axes do not keep their identity: then a
    constant quantized along an axis cannot be moved.
    """
    if isinstance(x, Constant):
        return Constant(move(x.array), x.element)
    if not isinstance(x, Quantized):
        return None
    axis = x.params.axis
    if axis is None:
        return replace(x, array=move(x.array))
    if new_axis is None:
        return None
    if x.params.block:
        return _moved_blocks(x, move, new_axis(axis))
    return replace(x, array=move(x.array), params=replace(x.params, axis=new_axis(axis)))


def _moved_blocks(x: Quantized, move: Callable[[Array], Array], axis: int) -> Quantized:
    """Scales are stored in row-major order of the blocks, so they are moved like the values."""
    assert x.params.axis is not None
    grid = block_grid(x.array.shape, x.params.axis, x.params.block)
    scales = move(np.asarray(x.params.scales, np.float32).reshape(grid))
    zero_points = move(np.asarray(x.params.zero_points, np.int32).reshape(grid))
    params = replace(
        x.params,
        scales=tuple(scales.reshape(-1).tolist()),
        zero_points=tuple(zero_points.reshape(-1).tolist()),
        axis=axis,
    )
    return replace(x, array=move(x.array), params=params)
