"""Pooling, reductions and normalisations of the ``nn`` dialect."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce as fold

import numpy as np
import torch
from torch import Tensor
from xdsl.dialects.builtin import f32

from uqfc.dialects import nn
from uqfc.dialects.tensors import ELEMENT_DTYPES, element_of, int_tuple, shape_of
from uqfc.elementary import UNARY
from uqfc.interpreter import Window, conv2d_patches
from uqfc.interpreter.nn_reductions import lowest
from uqfc.qat.integer.arithmetic import evaluate, scalar, square_root
from uqfc.qat.integer.float_sums import strided_sum
from uqfc.qat.integer.nn_elementwise import ON_FLOATS
from uqfc.qat.integer.products import padded, windows
from uqfc.qat.integer.registry import Step, makes, to_tensor


def taps(op: nn.Pool2dOp, x: Tensor, fill: float) -> list[Tensor]:
    """The window's elements [runs, N, H', W', C], tap by tap in row-major order."""
    kernel, images = int_tuple(op.kernel), padded(x.flatten(0, 1), int_tuple(op.padding), fill)
    view = windows(images, kernel, int_tuple(op.strides), int_tuple(op.dilations))
    view = view.unflatten(0, x.shape[:2])
    return [view[..., r, c, :] for r in range(kernel[0]) for c in range(kernel[1])]


@makes(nn.MaxPool2dOp)
def max_pool2d(op: nn.MaxPool2dOp, device: torch.device) -> Step:
    del device
    least = lowest(ELEMENT_DTYPES[element_of(op.x)])

    def run(x: Tensor) -> Tensor:
        result = torch.full((x.shape[0], *shape_of(op.result)), least, dtype=x.dtype).to(x.device)
        for tap in taps(op, x, least):
            result = torch.where(tap > result, tap, result)
        return result

    return Step(run, (op.x,))


@makes(nn.AvgPool2dOp)
def avg_pool2d(op: nn.AvgPool2dOp, device: torch.device) -> Step:
    kernel = int_tuple(op.kernel)
    divisor = np.asarray(kernel[0] * kernel[1], np.float32)
    if not op.count_include_pad.value.data:
        window = Window(int_tuple(op.strides), int_tuple(op.padding), int_tuple(op.dilations))
        ones = np.ones((1, *shape_of(op.x)[1:3], 1), np.float32)
        divisor = conv2d_patches(ones, kernel, window).sum(axis=(3, 4), dtype=np.float32)
    count = to_tensor(divisor, device)

    def run(x: Tensor) -> Tensor:
        total = x.new_zeros((x.shape[0], *shape_of(op.result)))
        for tap in taps(op, x, 0.0):
            total = total + tap
        return total / count

    return Step(run, (op.x,))


# --- reductions ---------------------------------------------------------------------------------


def mean_last(flat: Tensor) -> Tensor:
    return strided_sum(flat) / scalar(flat.shape[-1], flat)


def sequential(kind: type[nn.BinaryOp]) -> Callable[[Tensor], Tensor]:
    """Fold the last dimension from its first element."""
    return lambda flat: fold(ON_FLOATS[kind], flat.unbind(-1))


REDUCERS: dict[str, Callable[[Tensor], Tensor]] = {
    "sum": strided_sum,
    "mean": mean_last,
    "max": sequential(nn.MaximumOp),
    "min": sequential(nn.MinimumOp),
    "prod": sequential(nn.MulOp),
}


@makes(nn.ReduceOp)
def reduce_(op: nn.ReduceOp, device: torch.device) -> Step | None:
    del device
    if element_of(op.x) != f32:
        return None
    axes, shape = [axis + 1 for axis in int_tuple(op.axes)], shape_of(op.result)
    kept = [axis for axis in range(len(shape) + 1) if axis not in axes]
    function = REDUCERS[op.kind.data]

    def run(x: Tensor) -> Tensor:
        rows = [x.shape[axis] for axis in kept]
        flat = x.permute(*kept, *axes).reshape(*rows, -1)
        return function(flat).reshape(x.shape[0], *shape)

    return Step(run, (op.x,))


# --- normalisations -----------------------------------------------------------------------------


@makes(nn.SoftmaxOp)
def softmax(op: nn.SoftmaxOp, device: torch.device) -> Step:
    del device
    axis = op.axis.value.data + 1

    def run(x: Tensor) -> Tensor:
        last = x.movedim(axis, -1)
        e = evaluate(UNARY["exp"].f32, last - last.amax(-1, keepdim=True))
        return (e / strided_sum(e)[..., None]).movedim(-1, axis)

    return Step(run, (op.x,))


@makes(nn.LayerNormOp)
def layer_norm(op: nn.LayerNormOp, device: torch.device) -> Step:
    del device
    rank, epsilon = len(shape_of(op.scale)), op.epsilon.value.data

    def run(x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        flat = x.flatten(x.ndim - rank)
        d = flat - mean_last(flat)[..., None]
        variance = mean_last(d * d)[..., None]
        normal = d / square_root(variance + epsilon)
        leading = (-1, *[1] * (flat.ndim - 2), flat.shape[-1])
        factors = (t.reshape(leading) for t in (scale, bias))
        return (normal * next(factors) + next(factors)).reshape(-1, *x.shape[1:])

    return Step(run, (op.x, op.scale, op.bias))
