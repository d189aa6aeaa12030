"""The float ops of the network on tensors whose first dimension is the batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce as fold
from math import prod
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn import functional
from xdsl.ir import Operation

from uqfc.dialects import nn
from uqfc.dialects.nn import FnAttr
from uqfc.dialects.tensors import Shape, int_tuple, shape_of
from uqfc.errors import UqfcError
from uqfc.qat.exact_float import run_step, step_of
from uqfc.qat.integer.products import padded, windows


class UntrainableError(UqfcError):
    """An op of ``layer`` that has no form in training, where it is computed for a batch."""

    def __init__(self, layer: str, why: str) -> None:
        self.layer, self.why = layer, why
        super().__init__(f"layer '{layer}': {why}")


Function = Callable[[Any, Sequence[Tensor]], Tensor]
FLOAT_OPS: dict[type[Operation], Function] = {}
T = TypeVar("T", bound=Function)

UNARY: dict[str, Callable[..., Tensor]] = {
    "abs": torch.abs,
    "ceil": torch.ceil,
    "celu": functional.celu,
    "clip": functional.hardtanh,
    "cos": torch.cos,
    "elu": functional.elu,
    "erf": torch.erf,
    "exp": torch.exp,
    "floor": torch.floor,
    "gelu": functional.gelu,
    "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "hard_sigmoid": lambda x, alpha, beta: functional.hardtanh(x * alpha + beta, 0.0, 1.0),
    "hard_swish": functional.hardswish,
    "leaky_relu": functional.leaky_relu,
    "log": torch.log,
    "mish": functional.mish,
    "neg": torch.neg,
    "reciprocal": torch.reciprocal,
    "relu": functional.relu,
    "round": torch.round,
    "selu": functional.selu,
    "sigmoid": torch.sigmoid,
    "sign": torch.sign,
    "silu": functional.silu,
    "sin": torch.sin,
    "softplus": functional.softplus,
    "softsign": functional.softsign,
    "sqrt": torch.sqrt,
    "tanh": torch.tanh,
    "thresholded_relu": lambda x, alpha: torch.where(x > alpha, x, 0.0),
}


def float_op(*kinds: type[Operation]) -> Callable[[T], T]:
    """Register what an op computes, given its operands."""

    def register(function: T) -> T:
        for kind in kinds:
            FLOAT_OPS[kind] = function
        return function

    return register


def evaluate(op: Operation, operands: Sequence[Tensor]) -> Tensor:
    """The op's result. UntrainableError for an op that has no form here."""
    function = FLOAT_OPS.get(type(op))
    if function is not None:
        return function(op, operands)
    step = step_of(op, operands[0])
    if step is None:
        where = nn.layer_name(op) or op.name
        raise UntrainableError(where, f"{op.name} cannot be trained")
    return run_step(op, step, operands)


def activated(x: Tensor, function: FnAttr | None) -> Tensor:
    """The function of an ``nn.fn`` attribute; ``x`` itself without one."""
    return x if function is None else UNARY[function.data.name](x, *function.data.params)


def batched(shape: Shape, batch: int, what: str) -> list[int]:
    """The shape for a batch, where it is that for one image."""
    if not shape or shape[0] != 1:
        raise across_images(what)
    return [batch, *shape[1:]]


def across_images(layer: str) -> UntrainableError:
    return UntrainableError(
        layer,
        "it mixes or moves the first dimension; accepted: what computes each image of a batch on "
        "its own",
    )


@float_op(nn.UnaryOp)
def unary(op: nn.UnaryOp, operands: Sequence[Tensor]) -> Tensor:
    return activated(operands[0], op.fn)


BINARY: dict[type[Operation], Callable[[Tensor, Tensor], Tensor]] = {
    nn.AddOp: torch.add,
    nn.SubOp: torch.sub,
    nn.MulOp: torch.mul,
    nn.DivOp: torch.div,
    nn.PowOp: torch.pow,
    nn.MaximumOp: torch.maximum,
    nn.MinimumOp: torch.minimum,
}


@float_op(*BINARY)
def binary(op: nn.BinaryOp, operands: Sequence[Tensor]) -> Tensor:
    result = BINARY[type(op)](operands[0], operands[1])
    return activated(result, op.activation) if isinstance(op, nn.FusableBinaryOp) else result


@float_op(nn.Conv2dOp)
def conv2d(op: nn.Conv2dOp, operands: Sequence[Tensor]) -> Tensor:
    top, left, bottom, right = int_tuple(op.padding)
    x, weight = operands[0].permute(0, 3, 1, 2), operands[1].permute(0, 3, 1, 2)
    padding = (top, left)
    if (top, left) != (bottom, right):
        x, padding = functional.pad(x, (left, right, top, bottom)), (0, 0)
    bias = operands[2] if op.bias is not None else None
    strides, dilations = int_tuple(op.strides), int_tuple(op.dilations)
    y = functional.conv2d(x, weight, bias, strides, padding, dilations, op.groups.value.data)
    return finished(op, y.permute(0, 2, 3, 1), operands)


@float_op(nn.LinearOp)
def linear(op: nn.LinearOp, operands: Sequence[Tensor]) -> Tensor:
    bias = operands[2] if op.bias is not None else None
    return finished(op, functional.linear(operands[0], operands[1], bias), operands)


def finished(op: nn.Layer, y: Tensor, operands: Sequence[Tensor]) -> Tensor:
    if op.residual is not None:
        y = y + operands[-1]
    return activated(y, op.activation)


@float_op(nn.MatmulOp)
def matmul(op: nn.MatmulOp, operands: Sequence[Tensor]) -> Tensor:
    del op
    return operands[0] @ operands[1]


@float_op(nn.ReduceOp)
def reduce(op: nn.ReduceOp, operands: Sequence[Tensor]) -> Tensor:
    x, axes = operands[0], list(int_tuple(op.axes))
    if 0 in axes:
        raise across_images(op.layer)
    match op.kind.data:
        case "mean":
            return x.mean(axes, keepdim=True)
        case "sum":
            return x.sum(axes, keepdim=True)
        case "max":
            return x.amax(axes, keepdim=True)
        case "min":
            return x.amin(axes, keepdim=True)
        case kind:
            raise UntrainableError(op.layer, f"reduction '{kind}' cannot be trained")


@float_op(nn.AvgPool2dOp)
def avg_pool2d(op: nn.AvgPool2dOp, operands: Sequence[Tensor]) -> Tensor:
    top, left, bottom, right = int_tuple(op.padding)
    if (top, left) != (bottom, right) or set(int_tuple(op.dilations)) != {1}:
        sums, count = window_sums(op, operands[0])
        return sums / count
    include = bool(op.count_include_pad.value.data)
    x = operands[0].permute(0, 3, 1, 2)
    kernel, strides = int_tuple(op.kernel), int_tuple(op.strides)
    y = functional.avg_pool2d(x, kernel, strides, (top, left), count_include_pad=include)
    return y.permute(0, 2, 3, 1)


def window_sums(op: nn.AvgPool2dOp, x: Tensor) -> tuple[Tensor, Tensor]:
    """Sums over windows of x [N, H, W, C], and by what each is divided: [1, H', W', 1] or []."""
    window = int_tuple(op.kernel), int_tuple(op.strides), int_tuple(op.dilations)
    sums, padding = window_views(x, op, window).sum((3, 4)), int_tuple(op.padding)
    if op.count_include_pad.value.data or not any(padding):
        return sums, x.new_tensor(float(prod(window[0])))
    ones = torch.ones_like(x[:1, :, :, :1])
    return sums, window_views(ones, op, window).sum((3, 4)).clamp_(min=1.0)


def window_views(x: Tensor, op: nn.Pool2dOp, window: tuple[Shape, Shape, Shape]) -> Tensor:
    return windows(padded(x, int_tuple(op.padding), 0.0), *window)


@float_op(nn.MaxPool2dOp)
def max_pool2d(op: nn.MaxPool2dOp, operands: Sequence[Tensor]) -> Tensor:
    top, left, bottom, right = int_tuple(op.padding)
    x = functional.pad(
        operands[0].permute(0, 3, 1, 2), (left, right, top, bottom), value=-torch.inf
    )
    kernel, strides = int_tuple(op.kernel), int_tuple(op.strides)
    y = functional.max_pool2d(x, kernel, strides, 0, int_tuple(op.dilations))
    return y.permute(0, 2, 3, 1)


@float_op(nn.ReshapeOp)
def reshape(op: nn.ReshapeOp, operands: Sequence[Tensor]) -> Tensor:
    return operands[0].reshape(batched(shape_of(op.result), len(operands[0]), op.layer))


@float_op(nn.BroadcastOp)
def broadcast(op: nn.BroadcastOp, operands: Sequence[Tensor]) -> Tensor:
    return operands[0].expand(batched(shape_of(op.result), len(operands[0]), op.layer))


@float_op(nn.TransposeOp)
def transpose(op: nn.TransposeOp, operands: Sequence[Tensor]) -> Tensor:
    permutation = int_tuple(op.permutation)
    if permutation[:1] != (0,):
        raise across_images(op.layer)
    return operands[0].permute(permutation)


@float_op(nn.ConcatOp)
def concat(op: nn.ConcatOp, operands: Sequence[Tensor]) -> Tensor:
    axis, batch = op.axis.value.data, max(map(len, operands))
    if axis == 0:
        raise across_images(op.layer)
    return torch.cat([x.expand(batch, *x.shape[1:]) for x in operands], axis)  # of constants, too


@float_op(nn.SliceOp)
def slice_(op: nn.SliceOp, operands: Sequence[Tensor]) -> Tensor:
    x = operands[0]
    geometry = zip(int_tuple(op.starts), int_tuple(op.steps), shape_of(op.result), strict=True)
    for axis, (start, step, size) in enumerate(geometry):
        if axis and (step != 1 or size != x.shape[axis]):
            index = torch.arange(start, start + step * size, step, device=x.device)
            x = x.index_select(axis, index)
    return x


@float_op(nn.PadOp)
def pad(op: nn.PadOp, operands: Sequence[Tensor]) -> Tensor:
    pairs = list(zip(int_tuple(op.low), int_tuple(op.high), strict=True))
    widths = [width for pair in reversed(pairs) for width in pair]
    if op.mode.data != "constant":
        raise UntrainableError(op.layer, f"padding '{op.mode.data}' cannot be trained")
    value: Any = op.value
    return functional.pad(operands[0], widths, value=float(value.value.data))


@float_op(nn.SoftmaxOp)
def softmax(op: nn.SoftmaxOp, operands: Sequence[Tensor]) -> Tensor:
    if not op.axis.value.data:
        raise across_images(op.layer)
    return torch.softmax(operands[0], op.axis.value.data)


@float_op(nn.LayerNormOp)
def layer_norm(op: nn.LayerNormOp, operands: Sequence[Tensor]) -> Tensor:
    x, scale, bias = operands
    return functional.layer_norm(x, list(scale.shape), scale, bias, float(op.epsilon.value.data))


@float_op(nn.InterpolateOp)
def interpolate(op: nn.InterpolateOp, operands: Sequence[Tensor]) -> Tensor:
    x, indices, weights = operands
    axis = op.axis.value.data
    shape = [-1 if i == axis else 1 for i in range(x.ndim)]
    taps = zip(indices.unbind(1), weights.unbind(1), strict=True)
    terms = [x.index_select(axis, index) * w.reshape(shape) for index, w in taps]
    return fold(torch.add, terms)
