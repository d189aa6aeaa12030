"""Sums of integer products, computed exactly by float matrix products.

**Why the result is exact.** The operands are integers of at most 8 bits of significand: ``x`` in
0:255 and, in float32, centred weights of at most 256 in magnitude. So no backend loses anything
when it rounds operands: not TensorFloat-32 (11 bits), not even bfloat16 (8 bits), whatever the
process set. A product of two of them is an integer of at most 2**16. Matrix products add such
products in an order and grouping of the backend's choice, so that every intermediate value is the
sum of some subset of one output's terms. With ``0 <= x <= 255`` any such sum is within

    -255 * (sum of |w| over w < 0)  to  255 * (sum of w over w > 0),

so its magnitude is at most ``largest_sum(weight)``, computed from the actual weights. While that is
below 2**24 each intermediate value is an integer that float32 holds, and each addition, fused with
its multiplication or not, is exact. Otherwise, or with larger weights, float64 is used, which is
exact below 2**53.

Library convolutions are not used where a window has several elements: Winograd's and Fourier's
algorithms compute other intermediate values than such sums. Operands that another backend's
autocast would make float16 are kept: it is switched off here.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from uqfc.dialects.tensors import Shape

EXACT_FLOAT32 = 1 << 24
EXACT_FLOAT64 = 1 << 53
LARGEST_OPERAND = 256
"""Magnitude up to which every integer is exact in 8 bits of significand."""
LARGEST_BYTE = 255

PATCH_ELEMENTS = 1 << 25
"""Elements of im2col rows that are held at once."""


def largest_sum(weight: Tensor, largest_x: int = LARGEST_BYTE) -> int:
    """Magnitude that no sum of some terms ``x * w`` of one output exceeds, for 0 <= x <= largest_x.

    ``weight`` [O, …]: integers of any type, centred.
    """
    if not weight.numel():
        return 0
    rows = weight.reshape(weight.shape[0], -1).to(torch.int64)
    positive, negative = rows.clamp(min=0).sum(1), rows.clamp(max=0).sum(1)
    return largest_x * int(torch.maximum(positive, -negative).max())


def product_dtype(bound: int, largest_operand: int) -> torch.dtype:
    """The narrowest float type in which sums up to ``bound`` of such operands are exact.

    OverflowError if there is none.
    """
    if bound >= EXACT_FLOAT64:
        raise OverflowError(f"integer product: sums may reach {bound}")
    exact = bound < EXACT_FLOAT32 and largest_operand <= LARGEST_OPERAND
    return torch.float32 if exact else torch.float64


@dataclass(frozen=True)
class ExactWeight:
    """Centred weights [O, kh, kw, C / groups] or [O, K] in a float type whose sums are exact.

    ``bound``: magnitude that no sum exceeds, with activations in 0:255.
    """

    values: Tensor
    bound: int

    @staticmethod
    def of(weight: Tensor, bound: int | None = None) -> ExactWeight:
        """From integers. ``bound`` may be given, if it is known, as finding it waits for a GPU;
        the weights' magnitudes are then at most 256."""
        largest = LARGEST_OPERAND
        if bound is None:
            bound = largest_sum(weight)
            largest = int(weight.to(torch.int64).abs().max()) if weight.numel() else 0
        return ExactWeight(weight.to(product_dtype(bound, largest)), bound)


@dataclass(frozen=True)
class SumWindow:
    """Strides and dilations (rows, columns), padding (top, left, bottom, right) and groups."""

    strides: Shape = (1, 1)
    padding: Shape = (0, 0, 0, 0)
    dilations: Shape = (1, 1)
    groups: int = 1


def padded(x: Tensor, padding: Shape, value: float) -> Tensor:
    """``x`` [N, H, W, C] with ``value`` around height and width; of any element type."""
    top, left, bottom, right = padding
    return (
        torch.nn.functional.pad(x, (0, 0, left, right, top, bottom), value=value)
        if any(padding)
        else x
    )


def windows(x: Tensor, kernel: Shape, strides: Shape, dilations: Shape) -> Tensor:
    """A view [N, H', W', kh, kw, C] of padded ``x`` [N, H, W, C]."""
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    view = x.unfold(1, spans[0], strides[0]).unfold(2, spans[1], strides[1])
    return view[..., :: dilations[0], :: dilations[1]].permute(0, 1, 2, 4, 5, 3)


def sum_linear(x: Tensor, weight: ExactWeight) -> Tensor:
    """Exact ``x @ weight.T``: [..., K] integers in 0:255 and [N, K] give floats [..., N]."""
    w = weight.values
    return matrix_product(x.to(w.dtype), w.t())


def matrix_product(a: Tensor, b: Tensor) -> Tensor:
    """``a @ b`` in the type of its operands, whatever autocast says."""
    with torch.autocast(a.device.type, enabled=False):
        return torch.matmul(a, b)


def sum_conv2d(x: Tensor, weight: ExactWeight, window: SumWindow, pad_value: int) -> Tensor:
    """Exact convolution: integers in 0:255 [N, H, W, C] give floats [N, H', W', O].

    Outside the image ``x`` is ``pad_value``.
    """
    w = weight.values
    kernel = (int(w.shape[1]), int(w.shape[2]))
    source = padded(x.to(w.dtype), window.padding, float(pad_value))
    if window.groups > 1 and window.groups == w.shape[0] and w.shape[3] == 1:
        return depthwise(source, w, window)
    patches = windows(source, kernel, window.strides, window.dilations)
    per_image = max(1, patches[:1].numel())
    step = max(1, PATCH_ELEMENTS // per_image)
    parts = [grouped(part, w, window.groups) for part in patches.split(step)]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def depthwise(x: Tensor, w: Tensor, window: SumWindow) -> Tensor:
    """One input channel per output channel: shifted images times weights per channel."""
    view = windows(x, (int(w.shape[1]), int(w.shape[2])), window.strides, window.dilations)
    total = torch.zeros(view[..., 0, 0, :].shape, dtype=x.dtype, device=x.device)
    for row in range(w.shape[1]):
        for column in range(w.shape[2]):
            total.addcmul_(view[..., row, column, :], w[:, row, column, 0])
    return total


def grouped(patches: Tensor, w: Tensor, groups: int) -> Tensor:
    """[N, H', W', kh, kw, C] x [O, kh, kw, C / groups] -> [N, H', W', O]."""
    images = patches.shape[:3]
    outputs = w.shape[0] // groups
    if groups == 1:
        rows = patches.reshape(-1, w[0].numel())
        return matrix_product(rows, w.reshape(outputs, -1).t()).reshape(*images, outputs)
    split = patches.unflatten(5, (groups, -1)).permute(5, 0, 1, 2, 3, 4, 6)
    rows = split.reshape(groups, -1, w[0].numel())
    columns = w.reshape(groups, outputs, -1).transpose(1, 2)
    found = matrix_product(rows, columns).transpose(0, 1)
    return found.reshape(*images, groups * outputs)
