"""Matrix products over broadcast leading axes: a loop around one product."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager

import numpy as np

from uqfc.codegen.builder import Builder
from uqfc.codegen.kernels.geometry import Walk, broadcast_strides, collapse, dense_strides
from uqfc.codegen.kernels.tensor import Shape, nest
from uqfc.codegen.vector import Pointer, Value


def batch_walk(lhs: Shape, rhs: Shape) -> Walk:
    """Loops over the matrices of [..., M, K] x [..., K, N].

    Strides, in elements, of the left side, the right side and the result.
    """
    (m, k), n = lhs[-2:], rhs[-1]
    batch = np.broadcast_shapes(lhs[:-2], rhs[:-2])
    parts = ((lhs[:-2], m * k), (rhs[:-2], k * n), (batch, m * n))
    strides = [
        tuple(s * size for s in broadcast_strides(shape, dense_strides(shape), batch))
        for shape, size in parts
    ]
    return collapse(batch, strides)


@contextmanager
def each_product(
    b: Builder, walk: Walk, places: Sequence[Pointer], widths: Sequence[int]
) -> Generator[list[Pointer], None, None]:
    """The matrices' addresses of each product; ``widths`` are bytes of an element."""
    with nest(b, walk.sizes) as indices:
        yield [
            _offset(pointer, indices, strides, width)
            for pointer, strides, width in zip(places, walk.strides, widths, strict=True)
        ]


def _offset(pointer: Pointer, indices: Sequence[Value], strides: Shape, width: int) -> Pointer:
    for index, stride in zip(indices, strides, strict=True):
        pointer = pointer + index * (stride * width)
    return pointer
