"""``quantize(activation(x))``: in one pass over memory each way where it can be, on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from uqfc.codegen.batch import workers
from uqfc.codegen.isa import Isa, isa_for
from uqfc.codegen.training import CHUNK, training_code
from uqfc.codegen.vector import LANES
from uqfc.numerics import Activation
from uqfc.qat.estimators import Estimator, quantize, storage_dtype
from uqfc.qat.float_ops import UNARY
from uqfc.targets import load_target


@cache
def host_isa() -> Isa:
    """That of this machine's kernels."""
    return isa_for(load_target("host"))


def can_fuse(x: Tensor, estimator: Estimator) -> bool:
    """Whether ``fused_quantize`` takes the tensor."""
    fits = estimator in (Estimator.CLIPPED, Estimator.LSQ)
    return fits and x.device.type == "cpu" and x.dtype == torch.float32 and x.is_contiguous()


@dataclass(frozen=True)
class Levels:
    """Bounds of the type, and how gradients are estimated."""

    qmin: int
    qmax: int
    estimator: Estimator
    gradient_scale: float
    activation: Activation | None = None


def quantize_levels(
    x: Tensor, scale: Tensor, zero_point: Tensor, levels: Levels
) -> tuple[Tensor, Tensor]:
    """``fused_quantize`` where that takes the tensor, else the same in torch's ops."""
    if can_fuse(x, levels.estimator):
        return fused_quantize(x, scale, zero_point, levels)
    function = levels.activation
    y = x if function is None else UNARY[function.name](x, *function.params)
    return quantize(
        y,
        scale,
        zero_point,
        levels.qmin,
        levels.qmax,
        levels.estimator,
        axis=0 if scale.numel() > 1 else None,
        gradient_scale=levels.gradient_scale,
    )


def fused_quantize(
    x: Tensor, scale: Tensor, zero_point: Tensor, levels: Levels
) -> tuple[Tensor, Tensor]:
    """``estimators.quantize`` of ``activation(x)``: ``(real, q)``.

    ``x``: float32, contiguous. ``scale`` float32 and ``zero_point`` int32: one element, or one for
    each index of the first axis. The activation is the definition's.
    """
    return FusedQuantize.apply(x, scale, zero_point, levels)


class FusedQuantize(torch.autograd.Function):
    """See ``fused_quantize``."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scale: Tensor, zero_point: Tensor, levels: Levels
    ) -> tuple[Tensor, Tensor]:
        scale, zero_point = scale.contiguous(), zero_point.contiguous()
        run, _ = training_code(host_isa(), levels.activation)
        real = torch.empty_like(x)
        q = torch.empty_like(x, dtype=storage_dtype(levels.qmin, levels.qmax))
        addresses = [t.data_ptr() for t in (x, real, q)]
        numbers = scale.data_ptr(), zero_point.data_ptr(), levels.qmin, levels.qmax
        rows = scale.numel()

        def part(first: int, last: int) -> None:
            places = (a + first * w for a, w in zip(addresses, (4, 4, 1), strict=True))
            run(*places, rows, (last - first) // rows, *numbers)

        in_shares(x.numel(), CHUNK if rows == 1 else x.numel(), part)
        ctx.levels = levels
        ctx.mark_non_differentiable(q)
        ctx.set_materialize_grads(False)
        if any(ctx.needs_input_grad):
            ctx.save_for_backward(x, scale, zero_point)
        return real, q

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        g = gradients[0]
        if g is None or not any(ctx.needs_input_grad):
            return None, None, None, None
        x, scale, zero_point = ctx.saved_tensors
        levels: Levels = ctx.levels
        g = g.contiguous()
        _, run = training_code(host_isa(), levels.activation)
        out = torch.empty_like(x)
        rows = scale.numel()
        chunks = -(-x.numel() // rows // CHUNK)
        sums = torch.empty(rows, chunks * LANES)
        reach = 0.0 if levels.estimator == Estimator.LSQ else 0.5
        numbers = scale.data_ptr(), zero_point.data_ptr(), levels.qmin, levels.qmax, reach
        addresses = [t.data_ptr() for t in (g, x, out)]

        def part(first: int, last: int) -> None:
            places = [a + first * 4 for a in addresses]
            places.append(sums.data_ptr() + first // CHUNK * 4 * LANES)
            run(*places, rows, (last - first) // rows, *numbers)

        in_shares(x.numel(), CHUNK if rows == 1 else x.numel(), part)
        scale_gradient = None
        if ctx.needs_input_grad[1]:
            total = sums.sum(1, dtype=torch.float64).float() * levels.gradient_scale
            scale_gradient = total.reshape_as(scale)
        return out, scale_gradient, None, None


def in_shares(count: int, unit: int, share: Callable[[int, int], None]) -> None:
    """``share(first, last)`` of whole units but for the end, on as many threads as torch uses."""
    units = -(-count // unit)
    threads = max(1, min(torch.get_num_threads(), units))
    bounds = [min(count, units * part // threads * unit) for part in range(threads + 1)]
    shares = list(pairwise(bounds))
    helpers = [workers().submit(share, *each) for each in shares[1:]]
    share(*shares[0])
    for helper in helpers:
        helper.result()
