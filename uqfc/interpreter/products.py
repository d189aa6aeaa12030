"""Convolutions and matrix products: exact integer sums, and float sums in the contract's order.

Images are NHWC, convolution weights OHWI. The sum of a convolution runs over (row, column,
channel) of the window, which is the order of the last three axes of both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from uqfc.dialects.tensors import Array, Shape
from uqfc.numerics import F32, LANES, tree_sum

MatrixProduct: TypeAlias = Callable[[Array, Array], Array]
"""[M, K] x [K, N] -> [M, N]."""

PATCH_ELEMENTS = 1 << 23
"""Elements of im2col rows that are held at once."""

LANE_ELEMENTS = 1 << 17
"""Elements of lane sums that are held at once: half a megabyte stays in a core's cache."""


@dataclass(frozen=True)
class Window:
    """Strides and dilations (rows, columns), padding (top, left, bottom, right) and groups."""

    strides: Shape = (1, 1)
    padding: Shape = (0, 0, 0, 0)
    dilations: Shape = (1, 1)
    groups: int = 1


def conv2d_patches(
    x: Array, kernel: Shape, window: Window, pad_value: float | int | NDArray[Any] = 0
) -> Array:
    """A view [N, H', W', kh, kw, C] of ``x`` [N, H, W, C] padded with ``pad_value``."""
    top, left, bottom, right = window.padding
    if any(window.padding):
        pads = ((0, 0), (top, bottom), (left, right), (0, 0))
        x = np.pad(x, pads, constant_values=np.asarray(pad_value, x.dtype))
    (sy, sx), (dy, dx) = window.strides, window.dilations
    span = ((kernel[0] - 1) * dy + 1, (kernel[1] - 1) * dx + 1)
    views = sliding_window_view(x, span, axis=(1, 2))[:, ::sy, ::sx, :, ::dy, ::dx]
    return views.transpose(0, 1, 2, 4, 5, 3)


def row_blocks(patches: Array) -> Iterator[tuple[int, slice]]:
    """(image, output rows) whose patches have at most about ``PATCH_ELEMENTS`` elements."""
    images, height = patches.shape[:2]
    per_row = max(1, int(np.prod(patches.shape[2:])))
    step = max(1, PATCH_ELEMENTS // per_row)
    for image in range(images):
        for start in range(0, height, step):
            yield image, slice(start, min(start + step, height))


def grouped_product(patches: Array, weight: Array, groups: int, product: MatrixProduct) -> Array:
    """[N, H', W', kh, kw, C] x [O, kh, kw, C / groups] -> [N, H', W', O] group by group."""
    outputs = weight.shape[0] // groups
    channels = weight.shape[3]
    parts: list[Array] = []
    for g in range(groups):
        own = patches[..., g * channels : (g + 1) * channels]
        matrix = weight[g * outputs : (g + 1) * outputs].reshape(outputs, -1).T
        blocks: list[Array] = []
        for image, rows in row_blocks(own):
            block = own[image, rows]
            flat = product(block.reshape(-1, matrix.shape[0]), matrix)
            blocks.append(flat.reshape(-1, *block.shape[1:2], outputs))
        joined = np.concatenate(blocks, axis=0)
        parts.append(joined.reshape(*patches.shape[:3], outputs))
    return parts[0] if groups == 1 else np.concatenate(parts, axis=-1)


# --- exact integer sums -------------------------------------------------------------------------


def integer_matmul(a: Array, b: Array) -> NDArray[np.int64]:
    """Exact ``a @ b`` of integers as int64 [M, N]; OverflowError if a sum could reach 2**53.

    BLAS on floats is exact while every partial sum is an integer that the format holds.
    """
    if a.size == 0 or b.size == 0:
        return np.zeros((a.shape[0], b.shape[1]), np.int64)
    largest = max(abs(int(a.min())), abs(int(a.max())))
    bound = largest * int(np.abs(b.astype(np.int64)).sum(axis=0).max())
    if bound >= 1 << 53:
        raise OverflowError("integer product: sums may exceed 2**53")
    dtype = np.float32 if bound < 1 << 24 else np.float64
    return (a.astype(dtype) @ b.astype(dtype)).astype(np.int64)


def integer_linear(x: Array, weight: Array) -> NDArray[np.int64]:
    """Exact ``x @ weight.T`` of integers: [..., K] and [N, K] give int64 [..., N]."""
    flat = integer_matmul(x.reshape(-1, x.shape[-1]), weight.T)
    return flat.reshape(*x.shape[:-1], weight.shape[0])


def integer_conv2d(
    x: Array,
    weight: Array,
    strides: Shape = (1, 1),
    padding: Shape = (0, 0, 0, 0),
    dilations: Shape = (1, 1),
    groups: int = 1,
    pad_value: int = 0,
) -> NDArray[np.int64]:
    """Exact integer convolution: [N, H, W, C] and [O, kh, kw, C / groups] give [N, H', W', O]."""
    window = Window(strides, padding, dilations, groups)
    patches = conv2d_patches(x, weight.shape[1:3], window, pad_value)
    if not is_depthwise(weight, groups):
        return grouped_product(patches, weight, groups, integer_matmul)
    total = np.zeros((*patches.shape[:3], weight.shape[0]), np.int64)
    for row in range(weight.shape[1]):
        for column in range(weight.shape[2]):
            tap = patches[..., row, column, :].astype(np.int64)
            total += tap * weight[:, row, column, 0].astype(np.int64)
    return total


def is_depthwise(weight: Array, groups: int) -> bool:
    """One input and one output channel per group."""
    return groups > 1 and groups == weight.shape[0] and weight.shape[3] == 1


# --- float sums ---------------------------------------------------------------------------------


def strided_product(a: F32, b: F32) -> F32:
    """``numerics.strided_matmul`` to the bit, sixteen terms at a time and in blocks of rows."""
    m, k = a.shape
    n = b.shape[1]
    step = max(1, LANE_ELEMENTS // (LANES * max(n, 1)))
    out = np.empty((m, n), np.float32)
    for start in range(0, m, step):
        rows = np.ascontiguousarray(a[start : start + step])
        lanes = np.zeros((rows.shape[0], LANES, n), np.float32)
        terms = np.empty_like(lanes)
        for first in range(0, k, LANES):
            width = min(LANES, k - first)
            left, right = rows[:, first : first + width, None], b[None, first : first + width]
            lanes[:, :width] += np.multiply(left, right, out=terms[:, :width])
        out[start : start + step] = tree_sum(np.moveaxis(lanes, 1, -1))
    return out


def blas_product(a: F32, b: F32) -> F32:
    """``a @ b`` in whatever order the machine's BLAS has."""
    return a @ b


def float_conv2d(x: F32, weight: F32, window: Window, product: MatrixProduct) -> F32:
    """Float convolution [N, H', W', O]. ``product`` decides the order of the sums.

    A depthwise sum runs over the taps, of which there are few: it always has the contract's order.
    """
    patches = conv2d_patches(x, weight.shape[1:3], window)
    if not is_depthwise(weight, window.groups):
        return grouped_product(patches, weight, window.groups, product)
    taps = weight.reshape(weight.shape[0], -1)
    height, width = weight.shape[1:3]
    lanes = np.zeros((LANES, *patches.shape[:3], weight.shape[0]), np.float32)
    for tap in range(height * width):
        lanes[tap % LANES] += patches[..., tap // width, tap % width, :] * taps[:, tap]
    return tree_sum(np.moveaxis(lanes, 0, -1))


def float_matmul(a: F32, b: F32, product: MatrixProduct) -> F32:
    """Batched [..., M, K] x [..., K, N] with broadcast leading dimensions."""
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    left = np.broadcast_to(a, (*batch, *a.shape[-2:]))
    right = np.broadcast_to(b, (*batch, *b.shape[-2:]))
    out = np.empty((*batch, a.shape[-2], b.shape[-1]), np.float32)
    for index in np.ndindex(*batch):
        out[index] = product(left[index], right[index])
    return out
