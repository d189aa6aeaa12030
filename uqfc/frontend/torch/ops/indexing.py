"""Selection by indices."""

from __future__ import annotations

from math import prod

import numpy as np
from xdsl.dialects.builtin import i1, i32, i64

from uqfc.errors import ModelError
from uqfc.frontend.builder import Builder
from uqfc.frontend.torch.call import Call
from uqfc.frontend.torch.registry import converter
from uqfc.frontend.values import (
    UnsupportedUseError,
    Value,
    constant,
    dims,
    kind,
    known,
    rank,
    wrap_axis,
)


def take(b: Builder, x: Value, indices: Value, axis: int) -> Value:
    """``take(x, indices, axis)``; constant indices are checked, others clamped at run time."""
    if kind(indices) not in (i32, i64):
        raise UnsupportedUseError(f"indices of elements {kind(indices)}, supported: i32, i64")
    picks, size = known(indices), dims(x)[axis]
    if picks is None:
        return b.gather(x, indices, axis)
    if picks.size and (picks.min() < -size or picks.max() >= size):
        raise ModelError(f"an index is outside the {size} elements of axis {axis}")
    return b.gather(x, constant(np.where(picks < 0, picks + size, picks).astype(np.int64)), axis)


@converter("embedding", moves=True)
def embedding(call: Call, b: Builder) -> Value:
    call.ignore("padding_idx", "scale_grad_by_freq", "sparse")
    return take(b, call.value("weight"), call.value("indices"), 0)


@converter("index_select", moves=True)
def index_select(call: Call, b: Builder) -> Value:
    x = call.value("self")
    return take(b, x, call.value("index"), wrap_axis(call.integer("dim"), rank(x)))


@converter("index", moves=True)
def index(call: Call, b: Builder) -> Value:
    """One axis by indices of any shape, or several neighbouring ones by constants."""
    x = call.value("self")
    given = [(axis, v) for axis, v in enumerate(call.get("indices")) if v is not None]
    axes, indices = [a for a, _ in given], [v for _, v in given]
    if any(kind(v) == i1 for v in indices):
        raise UnsupportedUseError("a mask selects a number of elements that is not static")
    if len(given) == 1:
        return take(b, x, indices[0], axes[0])
    arrays = [known(v) for v in indices]
    if any(a is None for a in arrays) or axes != list(range(axes[0], axes[-1] + 1)):
        raise UnsupportedUseError("several axes are only selected by constants, side by side")
    sizes = dims(x)[axes[0] : axes[-1] + 1]
    picks = np.broadcast_arrays(*[a for a in arrays if a is not None])
    wrapped = [np.where(p < 0, p + n, p) for p, n in zip(picks, sizes, strict=True)]
    flat = np.ravel_multi_index(wrapped, sizes).astype(np.int64)
    merged = b.reshape(x, (*dims(x)[: axes[0]], prod(sizes), *dims(x)[axes[-1] + 1 :]))
    return take(b, merged, constant(flat), axes[0])
