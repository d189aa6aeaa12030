"""Gather and its relatives."""

from __future__ import annotations

import numpy as np
from xdsl.dialects.builtin import i32, i64

from uqfc.errors import ModelError
from uqfc.frontend.builder import Builder
from uqfc.frontend.node import Node
from uqfc.frontend.onnx_ops.registry import converter
from uqfc.frontend.values import Constant, Value, constant, dims, kind, known, rank, wrap_axis


@converter("Gather", moves=True)
def gather(node: Node, b: Builder) -> Value:
    """Constant indices are checked and made positive; others are clamped at run time.

    One constant index of rank 0 or a run of consecutive ones is a slice.
    """
    x, indices = node.input(0), node.input(1)
    axis = wrap_axis(node.integer("axis", 0), rank(x))
    if kind(indices) not in (i32, i64):
        raise ModelError(f"indices have elements {kind(indices)}, expected int32 or int64")
    picks = known(indices)
    if picks is None:
        return b.gather(x, indices, axis)
    size = dims(x)[axis]
    if picks.size and (picks.min() < -size or picks.max() >= size):
        raise ModelError(f"an index is outside the {size} elements of axis {axis}")
    positive = np.where(picks < 0, picks + size, picks).astype(np.int64)
    if isinstance(x, Constant) or not is_run(positive):
        return b.gather(x, constant(positive), axis)
    shape = [*dims(x)[:axis], positive.size, *dims(x)[axis + 1 :]]
    starts = [int(positive.reshape(-1)[0]) if i == axis else 0 for i in range(rank(x))]
    part = b.slice(x, starts, shape, [1] * rank(x))
    return b.reshape(part, [*dims(x)[:axis], *positive.shape, *dims(x)[axis + 1 :]])


def is_run(indices: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> bool:
    """Whether the indices are consecutive and ascending."""
    flat = indices.reshape(-1)
    return flat.size > 0 and bool((np.diff(flat) == 1).all())
