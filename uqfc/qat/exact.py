"""Values that integer ops compute exactly, with the gradients of the float ops they stand for.

All results are in units of the scale that they are rounded with next (``rounding.RoundClamp``).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from uqfc.elementary import UNARY
from uqfc.numerics import F64, Activation, lookup_table
from uqfc.qat.values import Value


class Exact(torch.autograd.Function):
    """``exact``, whose gradient goes, divided by ``unit``, to ``real``: the same value in reals.

    ``unit`` None stands for 1.
    """

    @staticmethod
    def forward(ctx: Any, real: Tensor, exact: Tensor, unit: Tensor | None) -> Tensor:
        ctx.save_for_backward(unit)
        ctx.shape = real.shape
        return exact.view_as(exact)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (unit,) = ctx.saved_tensors
        g = gradients[0] if unit is None else gradients[0] / unit
        return g.reshape(ctx.shape), None, None


class ExactProduct(torch.autograd.Function):
    """``f32((a - za) * (b - zb)) * multiplier`` with the gradients of ``a * b / unit``.

    ``left`` and ``right`` are the operands' centred integers as float32, ``a`` and ``b`` the reals;
    ``right`` broadcasts.
    """

    @staticmethod
    def forward(
        ctx: Any, a: Tensor, b: Tensor, left: Tensor, right: Tensor, factor: Tensor, unit: Tensor
    ) -> Tensor:
        ctx.save_for_backward(a, b, unit)
        return torch.mul(left, right).mul_(factor)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        a, b, unit = ctx.saved_tensors
        g = gradients[0] / unit
        da = (g * b).sum_to_size(a.shape) if ctx.needs_input_grad[0] else None
        db = (g * a).sum_to_size(b.shape) if ctx.needs_input_grad[1] else None
        return da, db, None, None, None, None


def multiplier(*factors: Tensor | float, over: Tensor | float = 1.0) -> Tensor:
    """``numerics.multiplier`` on tensors: a product in float64, rounded to float32 once."""
    first = next(f for f in (*factors, over) if isinstance(f, Tensor))
    product = torch.ones((), dtype=torch.float64, device=first.device)
    for factor in factors:
        product = product * (factor.detach().double() if isinstance(factor, Tensor) else factor)
    divisor = over.detach().double() if isinstance(over, Tensor) else over
    return (product / divisor).float()


def integers(value: Value) -> Tensor:
    """uint8 of a value with a scheme; dividing what was multiplied by a scale gives it back."""
    if value.q is not None:
        return value.q
    assert value.scheme is not None
    levels = torch.div(value.real.detach(), value.scheme.scale.detach()).round_()
    return levels.add_(value.scheme.zero_point).to(torch.uint8)


def centred(value: Value) -> Tensor:
    """``float32(q - zero_point)``."""
    assert value.scheme is not None
    return integers(value).float().sub_(value.scheme.zero_point)


def table(
    x: Value, scale: Tensor, zero_point: int, qmax: int, function: Activation | None
) -> Tensor:
    """The entries of the deployed table for every integer of ``x``, less the zero point.

    ``function`` None: only the change of parameters.
    """
    assert x.scheme is not None

    def apply(v: F64) -> F64:
        if function is None:
            return v
        # Parameters are float32 wherever they are used.
        return UNARY[function.name].f64(v, *(float(np.float32(p)) for p in function.params))

    given = float(x.scheme.scale.detach()), x.scheme.zero_point
    entries = lookup_table(apply, *given, float(scale.detach()), zero_point, 0, qmax)
    levels = entries.astype(np.float32) - np.float32(zero_point)
    return torch.from_numpy(levels).to(x.real.device)[integers(x).long()]
