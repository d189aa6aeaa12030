"""Float32 layers that were not quantized, their sums in the contract's order."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from xdsl.ir import SSAValue

from uqfc.dialects import nn
from uqfc.dialects.tensors import int_tuple
from uqfc.numerics import LANES
from uqfc.qat.integer.float_sums import strided_product, tree_sum
from uqfc.qat.integer.nn_elementwise import apply_fn
from uqfc.qat.integer.products import SumWindow, padded, windows
from uqfc.qat.integer.registry import Step, aligned, constant_of, makes, to_tensor


def layer_step(
    op: nn.Layer, device: torch.device, total: Callable[[Tensor, Tensor], Tensor]
) -> Step | None:
    """None unless weight and bias are constants."""
    weight = constant_of(op.weight)
    bias = None if op.bias is None else constant_of(op.bias)
    if weight is None or (op.bias is not None and bias is None):
        return None
    w = to_tensor(weight, device)
    addend = None if bias is None else to_tensor(bias, device)
    operands: tuple[SSAValue, ...] = (op.x,) if op.residual is None else (op.x, op.residual)

    def run(x: Tensor, residual: Tensor | None = None) -> Tensor:
        return layer_end(op, total(x, w), addend, residual)

    return Step(run, operands)


def layer_end(op: nn.Layer, v: Tensor, bias: Tensor | None, residual: Tensor | None) -> Tensor:
    """Bias, residual and activation, in this order."""
    for extra in (bias, residual):
        if extra is not None:
            v = v + extra
    return apply_fn(op.activation, v)


@makes(nn.LinearOp)
def linear(op: nn.LinearOp, device: torch.device) -> Step | None:
    return layer_step(op, device, linear_sums)


def linear_sums(x: Tensor, w: Tensor) -> Tensor:
    rows = strided_product(x.reshape(-1, x.shape[-1]), w.t())
    return rows.reshape(*x.shape[:-1], w.shape[0])


@makes(nn.Conv2dOp)
def conv2d(op: nn.Conv2dOp, device: torch.device) -> Step | None:
    return layer_step(op, device, partial(conv2d_sums, op))


def conv2d_sums(op: nn.Conv2dOp, x: Tensor, w: Tensor) -> Tensor:
    """[runs, N, H, W, C] -> [runs, N, H', W', O]."""
    geometry = (int_tuple(op.strides), int_tuple(op.padding), int_tuple(op.dilations))
    window = SumWindow(*geometry, op.groups.value.data)
    images = padded(x.flatten(0, 1), window.padding, 0.0)
    view = windows(images, tuple(w.shape[1:3]), window.strides, window.dilations)
    depthwise = window.groups > 1 and window.groups == w.shape[0] and w.shape[3] == 1
    found = depthwise_sums(view, w) if depthwise else dense_sums(view, w, window.groups)
    return found.unflatten(0, x.shape[:2])


def depthwise_sums(view: Tensor, w: Tensor) -> Tensor:
    """[N, H', W', kh, kw, C] x [C, kh, kw, 1]: lane ``l`` adds taps ``l, l + 16, …``."""
    width = w.shape[2]
    lanes = view.new_zeros((LANES, *view.shape[:3], view.shape[5]))
    for tap in range(w.shape[1] * width):
        row, column = tap // width, tap % width
        lanes[tap % LANES] += view[..., row, column, :] * w[:, row, column, 0]
    return tree_sum(lanes, 0)


def dense_sums(view: Tensor, w: Tensor, groups: int) -> Tensor:
    """[N, H', W', kh, kw, C] x [O, kh, kw, C / groups] -> [N, H', W', O]."""
    outputs = w.shape[0] // groups
    parts: list[Tensor] = []
    for channels, own in zip(view.chunk(groups, 5), w.split(outputs), strict=True):
        rows = channels.reshape(-1, own[0].numel())
        parts.append(strided_product(rows, own.reshape(outputs, -1).t()))
    return torch.cat(parts, -1).reshape(*view.shape[:3], w.shape[0])


@makes(nn.MatmulOp)
def matmul(op: nn.MatmulOp, device: torch.device) -> Step:
    del device
    return Step(lambda lhs, rhs: strided_product(*aligned(lhs, rhs)), (op.lhs, op.rhs))
