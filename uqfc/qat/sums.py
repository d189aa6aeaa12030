"""The sums of a layer on quantized operands: exact integers forward, the float layer's backward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from uqfc.codegen.depthwise_gradient import depthwise_gradient
from uqfc.codegen.vector import LANES
from uqfc.qat.fused import host_isa, in_shares
from uqfc.qat.integer.products import ExactWeight, SumWindow, sum_conv2d, sum_linear
from uqfc.qat.kernels import Geometry, layer_code


@dataclass(frozen=True)
class Integers:
    """A layer's operands as integers, and what its sums are multiplied with.

    ``x`` uint8 [N, H, W, C] or [N, K]; ``weight`` int16 [O, kh, kw, C / groups] or [O, K], minus
    its zero point; ``weight_zero_point`` (by which the geometry's storage holds the weights
    shifted, not negative) and ``addend`` int32 [O]; ``multiplier`` float32 [O].
    """

    x: Tensor
    weight: Tensor
    weight_zero_point: Tensor
    addend: Tensor
    multiplier: Tensor
    geometry: Geometry


class Backend(Protocol):
    """Computes ``float32(sum((x - zx) * (w - zw)) + bias) * multiplier``, to the bit."""

    def __call__(self, operands: Integers) -> Tensor:
        """float32 [N, H', W', O] or [N, O]. ``addend`` holds the terms of ``x``'s zero point."""
        ...


@dataclass(frozen=True)
class CompiledSums:
    """The kernels of a target that this machine can run; operands are on the CPU."""

    target: str

    def __call__(self, operands: Integers) -> Tensor:
        code = layer_code(operands.geometry, self.target)
        shift = operands.weight_zero_point.numpy()
        weight = operands.weight.numpy().astype(np.int32)
        weight += shift.reshape(-1, *[1] * (weight.ndim - 1))
        block = code.pack(weight, shift, operands.addend.numpy(), operands.multiplier.numpy())
        x = operands.x.contiguous()
        out = torch.empty((len(x), *code.result_shape[1:]), dtype=torch.float32)
        code.run(x.data_ptr(), block, out.data_ptr(), len(x), torch.get_num_threads())
        return out


@dataclass(frozen=True)
class FloatSums:
    """Integer-valued floats, on any device; ``integer.products`` says why that is exact."""

    def __call__(self, operands: Integers) -> Tensor:
        g = operands.geometry
        weight = ExactWeight.of(operands.weight)
        if operands.weight.ndim == 2:
            total = sum_linear(operands.x, weight)
        else:
            window = SumWindow(g.strides, g.padding, g.dilations, g.groups)
            total = sum_conv2d(operands.x, weight, window, g.x_zero_point)
        # float64 holds every int32: the sum is rounded to float32 once, as by a kernel.
        return total.double().add_(operands.addend).float().mul_(operands.multiplier)


class LayerSums(torch.autograd.Function):
    """``layer(x, weight) + bias`` in units of ``unit``: computed on integers, which are given.

    ``x``, ``weight`` and ``bias`` are the real values of the operands; gradients are those of the
    float layer at these values. ``unit`` [O], or None for 1: the result's real value is the result
    times it.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        unit: Tensor | None,
        operands: Integers,
        backend: Backend,
    ) -> Tensor:
        ctx.save_for_backward(x, weight, unit)
        ctx.geometry = operands.geometry
        ctx.has_bias = bias is not None
        return backend(operands)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        x, weight, unit = ctx.saved_tensors
        g = gradients[0]
        needs = (ctx.needs_input_grad[0], ctx.needs_input_grad[1], False)
        if weight.ndim == 2:
            dx = g @ per_channel(weight, unit) if needs[0] else None
            dw = g.flatten(0, -2).T @ x.flatten(0, -2) if needs[1] else None
        else:
            scaled = per_channel(weight, unit)
            small = g.device.type == "cpu" and x.shape[1] * x.shape[2] <= SMALL_IMAGE
            own = small and is_depthwise(weight, ctx.geometry)
            backward = depthwise_backward if own else convolution_backward
            dx, dw = backward(g, x, scaled, ctx.geometry, needs)
        wants_bias = ctx.has_bias and ctx.needs_input_grad[2]
        db = g.flatten(0, -2).sum(0) if wants_bias else None
        dw, db = (None if t is None else per_channel(t, unit) for t in (dw, db))
        return dx, dw, db, None, None, None


def per_channel(tensor: Tensor, unit: Tensor | None) -> Tensor:
    """``tensor`` [O, …] divided by ``unit``, [O] or a scalar: less work than dividing ``g``."""
    if unit is None:
        return tensor
    return tensor / unit.reshape(-1, *[1] * (tensor.ndim - 1))


SMALL_IMAGE = 64
"""Pixels up to which torch's depthwise gradients take longer than ours."""


def is_depthwise(weight: Tensor, geometry: Geometry) -> bool:
    """One input and one output channel a group."""
    return 1 < geometry.groups == weight.shape[0] and weight.shape[3] == 1


def depthwise_backward(
    g: Tensor, x: Tensor, weight: Tensor, geometry: Geometry, needs: Sequence[bool]
) -> tuple[Tensor, Tensor]:
    """``convolution_backward`` of a depthwise convolution on the CPU; computes both gradients."""
    del needs
    g, x = g.contiguous(), x.contiguous()
    taps = weight[..., 0].permute(1, 2, 0).contiguous()
    dx, dtaps = torch.empty_like(x), torch.empty_like(taps)
    run = depthwise_gradient(host_isa())
    pointers = [t.data_ptr() for t in (g, x, taps, dx, dtaps)]
    top, left, _, _ = geometry.padding
    sizes = *x.shape, *g.shape[1:3], *taps.shape[:2]
    channels = x.shape[3]

    def part(first: int, last: int) -> None:
        run(*pointers, *sizes, *geometry.strides, *geometry.dilations, top, left, first, last)

    in_shares(channels, LANES, part)
    return dx, dtaps.permute(2, 0, 1).unsqueeze(3)


def convolution_backward(
    g: Tensor, x: Tensor, weight: Tensor, geometry: Geometry, needs: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of x [N, H, W, C] and weight [O, kh, kw, C / groups]; g is [N, H', W', O]."""
    top, left, bottom, right = geometry.padding
    symmetric = (top, left) == (bottom, right)
    image = x.permute(0, 3, 1, 2)
    if not symmetric:
        image = torch.nn.functional.pad(image, (left, right, top, bottom))
    dx, dw, _ = torch.ops.aten.convolution_backward(
        g.permute(0, 3, 1, 2),
        image,
        weight.permute(0, 3, 1, 2),
        None,
        list(geometry.strides),
        [top, left] if symmetric else [0, 0],
        list(geometry.dilations),
        False,
        [0, 0],
        geometry.groups,
        list(needs),
    )
    if dx is not None and not symmetric:
        height, width = x.shape[1:3]
        dx = dx[:, :, top : top + height, left : left + width]
    back = [None if t is None else t.permute(0, 2, 3, 1) for t in (dx, dw)]
    return back[0], back[1]
