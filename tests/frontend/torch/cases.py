"""Calls of single ops, by what their results must have in common with torch's."""

from __future__ import annotations

from typing import Any

import pytest

from tests.frontend.torch.exported import Function, normal

torch = pytest.importorskip("torch")
F = torch.nn.functional

SHAPE = (2, 4, 6, 6)
WEIGHT = normal(1, 6, 4, 3, 3)
GROUPED = normal(2, 8, 2, 3, 2)
BIAS = normal(3, 6)
MATRIX = normal(4, 5, 6)
CHANNELS = normal(5, 4)
POSITIVE = normal(6, 4).abs() + 0.5


def assigned(x: Any) -> Any:
    """Writes to parts of a copy, and through a view of it."""
    y = x.clone()
    y[:, 1:3] = x[:, :2]
    y[:, :, 2] = 1.0
    y.view(2, -1).neg_()
    return y


MOVES: dict[str, Function] = {
    "alias": lambda x, i: torch.ops.aten.alias(x),
    "clone": lambda x, i: x.clone(),
    "detach": lambda x, i: x.detach(),
    "dropout": lambda x, i: F.dropout(x, 0.5, training=False),
    "flatten": lambda x, i: x.flatten(1),
    "unflatten": lambda x, i: x.unflatten(1, (2, -1)),
    "view": lambda x, i: x.view(2, -1),
    "reshape": lambda x, i: x.transpose(1, 2).reshape(2, -1),
    "assignment": lambda x, i: assigned(x),
    "squeeze": lambda x, i: x[:1, :, :1].squeeze(),
    "squeeze one": lambda x, i: x[:1].squeeze(0),
    "squeeze another": lambda x, i: x.squeeze(1),
    "squeeze some": lambda x, i: x[:1].squeeze((0, 1)),
    "unsqueeze": lambda x, i: x.unsqueeze(-1),
    "permute": lambda x, i: x.permute(0, 2, -1, 1),
    "transpose": lambda x, i: x.transpose(1, -1),
    "t": lambda x, i: x[0, 0].t(),
    "mT": lambda x, i: x.mT,
    "movedim": lambda x, i: x.movedim(1, 3),
    "expand": lambda x, i: x[:, :1].expand(3, 2, -1, 6, -1),
    "repeat": lambda x, i: x.repeat(2, 1, 1, 3, 1),
    "cat": lambda x, i: torch.cat([x, x[:, :1], x], 1),
    "cat of types": lambda x, i: torch.cat([x.flatten(), i.flatten()]),
    "stack": lambda x, i: torch.stack([x, x], -1),
    "split": lambda x, i: x.split(4, 2),
    "split sizes": lambda x, i: x.split([1, 3], 1),
    "chunk": lambda x, i: x.chunk(3, 3),
    "unbind": lambda x, i: x.unbind(1),
    "slice": lambda x, i: x[:, 1:3, ::2, -4:-1],
    "select": lambda x, i: x[:, -1, 2],
    "narrow": lambda x, i: x.narrow(2, 1, 3),
    "flip": lambda x, i: x.flip(1, 3),
    "roll": lambda x, i: x.roll(2, 3),
    "pad": lambda x, i: F.pad(x, (1, 2, 0, 3), value=2.0),
    "pad less": lambda x, i: F.pad(x, (1, -2)),
    "pad reflect": lambda x, i: F.pad(x, (1, 2, 2, 0), mode="reflect"),
    "pad replicate": lambda x, i: F.pad(x, (1, 2, 2, 0), mode="replicate"),
    "pad circular": lambda x, i: F.pad(x, (1, 2, 2, 0), mode="circular"),
    "pixel_shuffle": lambda x, i: F.pixel_shuffle(x, 2),
    "pixel_unshuffle": lambda x, i: F.pixel_unshuffle(x, 3),
    "channel_shuffle": lambda x, i: F.channel_shuffle(x, 2),
    "nearest": lambda x, i: F.interpolate(x, scale_factor=2),
    "nearest to a size": lambda x, i: F.interpolate(x, size=(7, 5)),
    "nearest of lines": lambda x, i: F.interpolate(x[0], size=11),
    "nearest by fractions": lambda x, i: F.interpolate(x, scale_factor=(1.7, 0.6)),
    "index_select": lambda x, i: x.index_select(2, torch.tensor([5, 0, 0])),
    "index": lambda x, i: x[:, [2, 0, -1]],
    "index by input": lambda x, i: x[:, i],
    "index of two": lambda x, i: x[:, [2, 0, -1], [1, 5, 0]],
    "embedding": lambda x, i: F.embedding(i, MATRIX),
    "max_pool2d": lambda x, i: F.max_pool2d(x, 3, 2, 1),
    "max_pool2d with indices": lambda x, i: F.max_pool2d(x, 2, return_indices=True)[0],
    "max_pool2d of an image": lambda x, i: F.max_pool2d(x[0], (2, 3), dilation=(2, 1)),
    "max_pool2d up": lambda x, i: F.max_pool2d(x, 4, 3, 1, ceil_mode=True),
    "max_pool1d": lambda x, i: F.max_pool1d(x[0], 2),
    "adaptive_max_pool2d": lambda x, i: F.adaptive_max_pool2d(x, (3, 2)),
    "adaptive_max_pool2d to one": lambda x, i: F.adaptive_max_pool2d(x, 1),
    "to int": lambda x, i: (x * 10).to(torch.int32),
    "to float": lambda x, i: i.float(),
    "type_as": lambda x, i: i.type_as(x),
    "full_like": lambda x, i: torch.full_like(x, 2.5) * x.sign(),
    "zeros": lambda x, i: x.new_zeros(6) + torch.arange(6),
    "a constant of a table": lambda x, i: torch.linspace(0, 1, 6).cumsum(0) + x.sign(),
}
"""These only move or select elements (or compute exactly): the results are equal."""

EXACT: dict[str, Function] = {
    "relu": lambda x, i: F.relu(x),
    "relu6": lambda x, i: F.relu6(x * 8),
    "hardtanh": lambda x, i: F.hardtanh(x, -0.5, 0.25),
    "clamp": lambda x, i: x.clamp(-1, 1),
    "clamp low": lambda x, i: x.clamp(min=0.5),
    "clamp_max": lambda x, i: x.clamp_max(0.5),
    "clamp by tensors": lambda x, i: x.clamp(x[:, :1] - 1, x[:1].abs()),
    "clamp of integers": lambda x, i: i.clamp(1, 2),
    "leaky_relu": lambda x, i: F.leaky_relu(x, 0.1),
    "prelu": lambda x, i: F.prelu(x, CHANNELS),
    "prelu of one": lambda x, i: F.prelu(x, CHANNELS[:1]),
    "threshold": lambda x, i: F.threshold(x, 0.1, -3.0),
    "abs": lambda x, i: x.abs(),
    "neg": lambda x, i: (-x, -i, (-i).abs()),
    "sign": lambda x, i: x.sign(),
    "floor": lambda x, i: (4 * x).floor(),
    "ceil": lambda x, i: (4 * x).ceil(),
    "round": lambda x, i: (4 * x).round(),
    "square": lambda x, i: x.square(),
    "square by pow": lambda x, i: x**2,
    "square of integers": lambda x, i: i**2,
    "reciprocal": lambda x, i: x.reciprocal(),
    "add": lambda x, i: x + x[:, :1] + 1,
    "add of integers": lambda x, i: i + 3 + i,
    "add of types": lambda x, i: x[0, 0, 0, :3] + i,
    "add scaled": lambda x, i: x.add(x.floor(), alpha=4),
    "sub": lambda x, i: x - x[:, :1] - 1,
    "rsub": lambda x, i: 1 - x,
    "mul": lambda x, i: x * x[:, :1] * 0.1,
    "mul of integers": lambda x, i: i * 2,
    "mul of types": lambda x, i: i * 2.5,
    "div": lambda x, i: x / 3 / x,
    "div of integers": lambda x, i: i / 3,
    "maximum": lambda x, i: torch.maximum(x, x[:, :1]),
    "minimum": lambda x, i: torch.minimum(x, x[:, :1]),
    "max of two": lambda x, i: torch.max(x, x[:, :1]),
    "comparisons": lambda x, i: (x > 0, x >= x[:1], x < 1, x <= 1, x == x[:, :1], x != 0),
    "comparison of types": lambda x, i: (i > 1.5, i == 2, i < x[0, 0, 0, :3]),
    "logical_not": lambda x, i: torch.logical_not(x > 0),
    "any": lambda x, i: ((x > 1).any(), (x > 1).any(1), (x > 1).all(2)),
    "logic": lambda x, i: ((x > 0) & (x[:1] > 0), torch.logical_or(x > 0, x[:1] > 0)),
    "where": lambda x, i: torch.where(x > 0, x, 2.0),
    "where of tensors": lambda x, i: torch.where(x > 0, x[:, :1], x[:1]),
    "masked_fill": lambda x, i: x.masked_fill(x > 0, -1.0),
    "amax": lambda x, i: x.amax((2, 3)),
    "amin": lambda x, i: x.amin(1, keepdim=True),
    "max": lambda x, i: x.max(),
    "max over an axis": lambda x, i: x.max(1)[0],
    "min over an axis": lambda x, i: x.min(2, keepdim=True).values,
    "argmax": lambda x, i: x.argmax(1),
    "argmin": lambda x, i: x.argmin(),
    "sum of integers": lambda x, i: i.sum(0),
    "one conv": lambda x, i: F.conv2d(x.round(), WEIGHT.round(), BIAS.round()),
}
"""One IEEE operation an element, or sums of small integers: the results are equal."""

NEAR: dict[str, Function] = {
    "conv2d": lambda x, i: F.conv2d(x, WEIGHT, BIAS, stride=(2, 1), padding=(1, 2)),
    "conv2d same": lambda x, i: F.conv2d(x, GROUPED, padding="same", groups=2, dilation=(1, 2)),
    "conv2d valid": lambda x, i: F.conv2d(x, GROUPED, padding="valid", groups=2),
    "conv2d of an image": lambda x, i: F.conv2d(x[0], WEIGHT, BIAS, dilation=2),
    "conv1d": lambda x, i: F.conv1d(x[0], WEIGHT[..., 0].reshape(3, 6, 4), padding=1),
    "conv by input": lambda x, i: F.conv2d(x, x[:, :, :3, :3]),
    "conv_transpose1d": lambda x, i: F.conv_transpose1d(x[0], normal(7, 6, 2, 3), stride=2),
    "conv_transpose2d": lambda x, i: F.conv_transpose2d(
        x, normal(7, 4, 3, 3, 2), None, 2, 1, (1, 0), 2, (1, 2)
    ),
    "batch_norm": lambda x, i: F.batch_norm(x, CHANNELS, POSITIVE, CHANNELS, CHANNELS),
    "batch_norm of rows": lambda x, i: F.batch_norm(x[:, :, 0, 0], CHANNELS, POSITIVE),
    "layer_norm": lambda x, i: F.layer_norm(x, (6,), normal(7, 6), normal(8, 6)),
    "layer_norm of two": lambda x, i: F.layer_norm(x, (6, 6)),
    "rms_norm": lambda x, i: F.rms_norm(x, (6,), normal(7, 6)),
    "group_norm": lambda x, i: F.group_norm(x, 2, CHANNELS, POSITIVE),
    "instance_norm": lambda x, i: F.instance_norm(x, weight=CHANNELS, bias=POSITIVE),
    "linear": lambda x, i: F.linear(x, MATRIX, BIAS[:5]),
    "linear by input": lambda x, i: F.linear(x, x[0, 0], x[0, 0, 0]),
    "matmul": lambda x, i: x @ x[:, :1].mT,
    "matmul with a vector": lambda x, i: x @ x[0, 0, 0],
    "matmul with a matrix": lambda x, i: x @ MATRIX.t(),
    "mm": lambda x, i: x[0, 0].mm(MATRIX.t()),
    "bmm": lambda x, i: torch.bmm(x[0], x[1]),
    "addmm": lambda x, i: torch.addmm(BIAS[:5], x[0, 0], MATRIX.t()),
    "addmm of matrices": lambda x, i: torch.addmm(x[0, 1], x[0, 0], x[1, 0], alpha=2, beta=3),
    "baddbmm": lambda x, i: torch.baddbmm(x[0], x[0], x[1]),
    "einsum": lambda x, i: torch.einsum("bchw,bdhw->bcd", x, x),
    "attention": lambda x, i: F.scaled_dot_product_attention(x, x, x),
    "causal attention": lambda x, i: F.scaled_dot_product_attention(x, x, x, is_causal=True),
    "masked attention": lambda x, i: F.scaled_dot_product_attention(
        x, x, x, (x[0, 0] > 0) | torch.eye(6, dtype=torch.bool), scale=0.25
    ),
    "biased attention": lambda x, i: F.scaled_dot_product_attention(x, x, x, x[0, 0]),
    "avg_pool2d": lambda x, i: F.avg_pool2d(x, 3, 2, 1),
    "avg_pool2d inside": lambda x, i: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
    "avg_pool2d up": lambda x, i: F.avg_pool2d(x, 4, 3, 1, ceil_mode=True),
    "avg_pool1d": lambda x, i: F.avg_pool1d(x[0], 2),
    "adaptive_avg_pool2d": lambda x, i: F.adaptive_avg_pool2d(x, (3, None)),
    "adaptive_avg_pool2d to one": lambda x, i: F.adaptive_avg_pool2d(x[0], 1),
    "adaptive_avg_pool1d": lambda x, i: F.adaptive_avg_pool1d(x[0], 2),
    "mean": lambda x, i: x.mean(),
    "mean of images": lambda x, i: x.mean((2, 3), keepdim=True),
    "mean of integers": lambda x, i: i.float().mean(0),
    "sum": lambda x, i: x.sum(1),
    "prod": lambda x, i: x.prod(1),
    "var": lambda x, i: x.var(1),
    "std": lambda x, i: x.std((2, 3), correction=0),
    "norm": lambda x, i: x.norm(dim=1),
    "normalize": lambda x, i: F.normalize(x, dim=1),
    "norm of sums": lambda x, i: torch.linalg.vector_norm(x, 1, dim=(1, 2)),
    "norm of the largest": lambda x, i: torch.linalg.vector_norm(x, float("inf")),
    "logsumexp": lambda x, i: x.logsumexp(1),
    "softmax": lambda x, i: x.softmax(1),
    "log_softmax": lambda x, i: x.log_softmax(-1),
    "hardswish": lambda x, i: F.hardswish(3 * x),
    "hardsigmoid": lambda x, i: F.hardsigmoid(3 * x),
    "sigmoid": lambda x, i: x.sigmoid(),
    "silu": lambda x, i: F.silu(x),
    "gelu": lambda x, i: F.gelu(x),
    "gelu by tanh": lambda x, i: F.gelu(x, approximate="tanh"),
    "tanh": lambda x, i: x.tanh(),
    "mish": lambda x, i: F.mish(x),
    "elu": lambda x, i: F.elu(x, 0.5),
    "celu": lambda x, i: F.celu(x, 0.5),
    "selu": lambda x, i: F.selu(x),
    "softplus": lambda x, i: F.softplus(30 * x),
    "softplus scaled": lambda x, i: F.softplus(x, 2.0),
    "log_sigmoid": lambda x, i: F.logsigmoid(x),
    "glu": lambda x, i: F.glu(x, 1),
    "expm1": lambda x, i: (x.expm1(), (x * 1e-4).expm1() * 1e4),
    "log1p": lambda x, i: (x.abs().log1p(), (x * 1e-4).log1p() * 1e4, (30 * x).exp().log1p()),
    "exp": lambda x, i: x.exp(),
    "log": lambda x, i: x.abs().log(),
    "sqrt": lambda x, i: x.abs().sqrt(),
    "root by pow": lambda x, i: x.abs() ** 0.5,
    "rsqrt": lambda x, i: x.abs().rsqrt(),
    "sin": lambda x, i: x.sin(),
    "cos": lambda x, i: x.cos(),
    "erf": lambda x, i: x.erf(),
    "pow": lambda x, i: (x**3, 2.0**x, x.abs() ** x),
    "addcmul": lambda x, i: torch.addcmul(x, x, x, value=0.5),
    "linear1d": lambda x, i: F.interpolate(x[0], size=9, mode="linear"),
    "bilinear": lambda x, i: F.interpolate(x, scale_factor=2, mode="bilinear"),
    "bilinear to a size": lambda x, i: F.interpolate(
        x, size=(9, 4), mode="bilinear", align_corners=True
    ),
    "bicubic": lambda x, i: F.interpolate(x, size=(9, 4), mode="bicubic"),
}
"""Sums of up to 64 products, or functions with a few ulps of error."""


def case_inputs() -> tuple[Any, Any]:
    """Float32 [2, 4, 6, 6] and int64 [3] of 0..3."""
    return normal(0, *SHAPE), torch.tensor([2, 0, 3])
