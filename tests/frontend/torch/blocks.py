"""Random networks of the blocks that vision models are made of, in which float32 is exact.

Weights are integers of at most 2, activations at the start of each block integers of at most 8 (a
block ends with a floor and a clamp), image sizes and factors powers of two. A layer has at most 48
channels in windows of 9, or 48 * 64 pixels of integers at the end: sums of at most ``2**16``. What
normalises, averages or activates a sum at most doubles it, and adds at most 6 bits after the point:
in steps of ``2**-6`` these are 23 bits, so that every order of every sum gives the same bits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
nn = torch.nn

LARGEST = 8
EPSILON = 2.0**-4
CHANNELS = st.sampled_from([2, 4, 8])

ACTIVATIONS: list[Callable[[], Any]] = [
    nn.Identity,
    nn.ReLU,
    lambda: nn.ReLU(inplace=True),
    nn.ReLU6,
    lambda: nn.Hardtanh(-2.0, 3.0),
    lambda: nn.LeakyReLU(0.25),
    lambda: nn.LeakyReLU(0.5, inplace=True),
    lambda: nn.PReLU(init=0.5),
]


class Reset(nn.Module):
    """Integers of at most 8 again."""

    def forward(self, x: Any) -> Any:
        return torch.floor(x).clamp(-LARGEST, LARGEST)


class SqueezeExcite(nn.Module):
    """Channels times 0, 1 or 2, from the means of all channels."""

    def __init__(self, channels: int, seed: int) -> None:
        super().__init__()
        self.squeeze = convolution(channels, 2, 1, seed)
        self.excite = convolution(2, channels, 1, seed + 1)

    def forward(self, x: Any) -> Any:
        gate = torch.relu(self.squeeze(nn.functional.adaptive_avg_pool2d(x, 1)))
        return x * self.excite(gate).floor().clamp(0, 2)


class Residual(nn.Module):
    """``x + body(x)``."""

    def __init__(self, body: Any) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Any) -> Any:
        return x + self.body(x)


class Branches(nn.Module):
    """The results of several bodies behind one another, in channels."""

    def __init__(self, *bodies: Any) -> None:
        super().__init__()
        self.bodies = nn.ModuleList(bodies)

    def forward(self, x: Any) -> Any:
        return torch.cat([body(x) for body in self.bodies], dim=1)


class Shuffle(nn.Module):
    """Halves of the channels exchanged, one of them mirrored, and turned on the way."""

    def forward(self, x: Any) -> Any:
        first, second = x.chunk(2, dim=1)
        mixed = torch.cat([second, first.flip(3)], dim=1)
        return nn.functional.channel_shuffle(mixed.transpose(2, 3).contiguous(), 2)


class Attention(nn.Module):
    """``(q @ k.T) @ v`` over pixels, without the softmax, which is not exact."""

    def __init__(self, channels: int, seed: int) -> None:
        super().__init__()
        self.project = linear(channels, 3 * channels, seed)

    def forward(self, x: Any) -> Any:
        n, c, h, w = x.shape
        tokens = x.reshape(n, c, h * w).permute(0, 2, 1)
        q, k, v = self.project(tokens).clamp(-1, 1).split(c, dim=-1)
        mixed = torch.matmul(q @ k.transpose(-2, -1) * 0.25, v)
        return mixed.transpose(1, 2).view(n, c, h, w)


def integers(shape: tuple[int, ...], limit: int, seed: int) -> Any:
    """Float32 whole numbers of at most ``limit``."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-limit, limit + 1, shape, generator=generator).float()


def with_integers(module: Any, seed: int) -> Any:
    """The layer with small integers as its parameters."""
    for index, parameter in enumerate(module.parameters()):
        parameter.data = integers(tuple(parameter.shape), 2, seed + index)
    return module


def convolution(channels: int, out: int, kernel: int, seed: int, **options: Any) -> Any:
    return with_integers(nn.Conv2d(channels, out, kernel, **options), seed)


def linear(features: int, out: int, seed: int) -> Any:
    return with_integers(nn.Linear(features, out), seed)


def batch_norm(channels: int, seed: int) -> Any:
    """With a deviation of 1 or 2, and factors and means that keep sums exact."""
    module = nn.BatchNorm2d(channels, eps=EPSILON)
    module.running_var = 4.0 ** integers((channels,), 1, seed).abs() - EPSILON
    module.running_mean = integers((channels,), 3, seed + 1)
    module.weight.data = 2.0 ** integers((channels,), 1, seed + 2)
    module.bias.data = integers((channels,), 3, seed + 3) / 2
    return module


@st.composite
def conv_block(draw: st.DrawFn, channels: int, out: int, stride: int = 1) -> Any:
    """Convolution, batch normalisation, activation, as far as they are drawn."""
    seed = draw(st.integers(0, 999))
    kernel = draw(st.sampled_from([1, 3]))
    dilation = draw(st.sampled_from([1, 1, 2]))
    groups = draw(st.sampled_from([1, 1, 2]))
    options = {"stride": stride, "dilation": dilation, "groups": groups}
    same = stride == 1 and draw(st.booleans())
    padding = "same" if same else kernel // 2 * dilation
    bias = draw(st.booleans())
    layers = [convolution(channels, out, kernel, seed, padding=padding, bias=bias, **options)]
    if draw(st.booleans()):
        layers.append(batch_norm(out, seed))
    return nn.Sequential(*layers, draw(st.sampled_from(ACTIVATIONS))())


@st.composite
def depthwise_block(draw: st.DrawFn, channels: int, out: int, stride: int = 1) -> Any:
    """A filter of each channel, channels re-weighted or not, and a projection."""
    seed = draw(st.integers(0, 999))
    layers = [
        convolution(channels, channels, 3, seed, padding=1, stride=stride, groups=channels),
        batch_norm(channels, seed + 10),
        draw(st.sampled_from(ACTIVATIONS))(),
        Reset(),
    ]
    if draw(st.booleans()):
        layers += [SqueezeExcite(channels, seed), Reset()]
    return nn.Sequential(*layers, convolution(channels, out, 1, seed + 1))


@st.composite
def block(draw: st.DrawFn, channels: int) -> tuple[Any, int, int]:
    """A block, its result's channels, and by what it divides the image's size."""
    out = draw(CHANNELS)
    body = draw(st.sampled_from([conv_block, depthwise_block]))
    match draw(st.sampled_from(["plain", "residual", "branches", "pool", "shuffle", "attention"])):
        case "plain":
            stride = draw(st.sampled_from([1, 2]))
            return draw(body(channels, out, stride)), out, stride
        case "residual":
            return Residual(draw(body(channels, channels))), channels, 1
        case "branches":
            bodies = [draw(body(channels, 2)) for _ in range(draw(st.integers(1, 2)))]
            return Branches(*bodies, nn.Identity()), 2 * len(bodies) + channels, 1
        case "pool":
            kind = draw(st.sampled_from([nn.MaxPool2d, nn.AvgPool2d]))
            return kind(2), channels, 2
        case "shuffle":
            return Shuffle(), channels, 1
        case _:
            return Attention(channels, draw(st.integers(0, 999))), channels, 1


@st.composite
def networks(draw: st.DrawFn) -> tuple[Any, Any]:
    """A network, and an input [N, C, 8, 8] or smaller at its end."""
    channels, size = draw(CHANNELS), 8
    x = integers((draw(st.integers(1, 2)), channels, size, size), LARGEST, draw(st.integers(0, 99)))
    layers: list[Any] = []
    for _ in range(draw(st.integers(1, 3))):
        body, channels, shrink = draw(block(channels))
        layers += [body, Reset()]
        size //= shrink
    match draw(st.sampled_from(["image", "pooled", "flat"])):
        case "image":
            head: list[Any] = []
        case "pooled":
            head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear(channels, 3, 5)]
        case _:
            head = [nn.Flatten(), nn.Dropout(), linear(channels * size * size, 3, 5), nn.ReLU6()]
    return nn.Sequential(*layers, *head).eval(), x
