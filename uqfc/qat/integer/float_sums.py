"""The float32 sums of ``numerics`` on tensors: 16 strided lanes, combined by a tree.

Every product is rounded before it is added; no library sums here, as their order is their own.
"""

from __future__ import annotations

import torch
from torch import Tensor

from uqfc.numerics import LANES

LANE_ELEMENTS = 1 << 22
"""Lane sums that are held at once."""


def tree_sum(lanes: Tensor, dim: int) -> Tensor:
    """``numerics.tree_sum`` over a dimension of ``LANES`` elements."""
    width = lanes.shape[dim]
    while width > 1:
        width //= 2
        lanes = lanes.narrow(dim, 0, width) + lanes.narrow(dim, width, width)
    return lanes.squeeze(dim)


def strided_sum(x: Tensor) -> Tensor:
    """``numerics.strided_sum`` over the last dimension of float32."""
    lanes = x.new_zeros((*x.shape[:-1], LANES))
    for start in range(0, x.shape[-1], LANES):
        chunk = x[..., start : start + LANES]
        lanes[..., : chunk.shape[-1]] += chunk
    return tree_sum(lanes, -1)


def strided_product(a: Tensor, b: Tensor) -> Tensor:
    """``numerics.strided_matmul`` of [..., M, K] and [..., K, N], the rest broadcast."""
    k, n = b.shape[-2:]
    leading = torch.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    per_row = max(1, LANES * n * leading.numel())
    parts: list[Tensor] = []
    for rows in a.split(max(1, LANE_ELEMENTS // per_row), dim=-2):
        lanes = a.new_zeros((*leading, rows.shape[-2], LANES, n))
        for first in range(0, k, LANES):
            left = rows[..., first : first + LANES, None]
            terms = left * b[..., None, first : first + LANES, :]
            lanes[..., : left.shape[-2], :] += terms
        parts.append(tree_sum(lanes, -2))
    return parts[0] if len(parts) == 1 else torch.cat(parts, -2)
