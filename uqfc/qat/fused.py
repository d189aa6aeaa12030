"""``quantize(activation(x))`` in one pass over memory each way, on the CPU."""

from __future__ import annotations

from collections.abc import Callable
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
from uqfc.qat.estimators import Estimator
from uqfc.qat.rounding import Rounding
from uqfc.targets import load_target


@cache
def host_isa() -> Isa:
    """That of this machine's kernels."""
    return isa_for(load_target("host"))


def can_fuse(x: Tensor, estimator: Estimator) -> bool:
    """Whether ``FusedQuantize`` takes the tensor."""
    fits = estimator in (Estimator.CLIPPED, Estimator.LSQ)
    return fits and x.device.type == "cpu" and x.dtype == torch.float32 and x.is_contiguous()


class FusedQuantize(torch.autograd.Function):
    """``(real, q)`` of contiguous float32 ``x``: ``estimators.quantize`` of ``activation(x)``.

    ``rounding`` has the bounds of the type, and no fused clamp. The activation is the definition's.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scale: Tensor, rounding: Rounding, activation: Activation | None
    ) -> tuple[Tensor, Tensor]:
        run, _, _ = training_code(host_isa(), activation)
        real, q = torch.empty_like(x), torch.empty_like(x, dtype=torch.uint8)
        numbers = scale.item(), rounding.zero_point, rounding.low, rounding.high
        addresses = x.data_ptr(), real.data_ptr(), q.data_ptr()

        def part(first: int, last: int) -> None:
            places = (a + first * w for a, w in zip(addresses, (4, 4, 1), strict=True))
            run(*places, last - first, *numbers)

        in_shares(x.numel(), CHUNK, part)
        ctx.rounding, ctx.activation = rounding, activation
        ctx.mark_non_differentiable(q)
        ctx.set_materialize_grads(False)
        if any(ctx.needs_input_grad):
            ctx.save_for_backward(x, scale)
        return real, q

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        g = gradients[0]
        if g is None or not any(ctx.needs_input_grad):
            return None, None, None, None
        x, scale = ctx.saved_tensors
        r: Rounding = ctx.rounding
        g = g.contiguous()
        _, run, _ = training_code(host_isa(), ctx.activation)
        out = torch.empty_like(x)
        sums = torch.empty(-(-x.numel() // CHUNK), LANES)
        reach = 0.0 if r.estimator == Estimator.LSQ else 0.5
        numbers = scale.item(), r.low, r.high, reach
        addresses = g.data_ptr(), x.data_ptr(), out.data_ptr(), sums.data_ptr()

        def part(first: int, last: int) -> None:
            places = [a + first * 4 for a in addresses[:3]]
            places.append(addresses[3] + first // CHUNK * 4 * LANES)
            run(*places, last - first, *numbers)

        in_shares(x.numel(), CHUNK, part)
        scale_gradient = None
        if ctx.needs_input_grad[1]:
            total = sums.sum(dtype=torch.float64).float() * r.gradient_scale
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
