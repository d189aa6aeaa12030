"""Random small PyTorch networks, and what QAT may be asked for with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
nn = torch.nn

FUSED: list[Callable[[], Any]] = [
    nn.Identity,
    nn.ReLU,
    nn.ReLU6,
    nn.Hardswish,
    nn.Hardsigmoid,
    lambda: nn.LeakyReLU(0.1),
    lambda: nn.Hardtanh(-1.0, 1.0),
]
TABLES: list[Callable[[], Any]] = [nn.Sigmoid, nn.SiLU, nn.GELU, nn.Tanh, lambda: nn.ELU(0.7)]
CHANNELS = st.sampled_from([1, 3, 4, 8])
SEEDS = st.integers(0, 9999)


@dataclass(frozen=True)
class Case:
    """A module in eval mode, inputs [batch, …] to calibrate with, and arguments of prepare_qat."""

    module: Any
    x: Any
    options: dict[str, Any]

    def __repr__(self) -> str:
        return f"{self.module}\n{self.options}\nx: {list(self.x.shape)}"


class Residual(nn.Module):
    """``x + body(x)``, and an activation."""

    def __init__(self, body: Any, activation: Any) -> None:
        super().__init__()
        self.body, self.activation = body, activation

    def forward(self, x: Any) -> Any:
        return self.activation(x + self.body(x))


class Branches(nn.Module):
    """Results of several bodies, and x itself, behind one another in channels."""

    def __init__(self, bodies: list[Any]) -> None:
        super().__init__()
        self.bodies = nn.ModuleList(bodies)

    def forward(self, x: Any) -> Any:
        return torch.cat([body(x) for body in self.bodies] + [x], dim=1)


class SqueezeExcite(nn.Module):
    """x times a gate from the means of its channels."""

    def __init__(self, channels: int, gate: Any) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, 4, 1)
        self.excite = nn.Conv2d(4, channels, 1)
        self.gate = gate

    def forward(self, x: Any) -> Any:
        mean = nn.functional.adaptive_avg_pool2d(x, 1)
        return x * self.gate(self.excite(torch.relu(self.squeeze(mean))))


class Move(nn.Module):
    """One of the ops that move or resample."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def extra_repr(self) -> str:
        return self.kind

    def forward(self, x: Any) -> Any:
        match self.kind:
            case "pad":
                return nn.functional.pad(x, (1, 0, 0, 2))
            case "pad with ones":
                return nn.functional.pad(x, (1, 0, 0, 2), value=1.0)
            case "slice":
                return x[:, :, 1:, ::2]
            case "flip":
                return x.flip(3)
            case "nearest":
                return nn.functional.interpolate(x, scale_factor=2, mode="nearest")
            case "bilinear":
                return nn.functional.interpolate(x, scale_factor=2, mode="bilinear")
            case "sub":
                return x - x.flip(2)
            case "double":
                return x * 2.0 + 0.125
            case _:
                return torch.cat([x, torch.ones_like(x[:, :1])], dim=1)


MOVES = [
    "pad",
    "pad with ones",
    "slice",
    "flip",
    "nearest",
    "bilinear",
    "sub",
    "double",
    "constant",
]
POOLS: list[Callable[[], Any]] = [
    lambda: nn.MaxPool2d(2, ceil_mode=True),
    lambda: nn.MaxPool2d(3, 1, padding=1),
    lambda: nn.AvgPool2d(2, ceil_mode=True),
    lambda: nn.AvgPool2d(3, 2, padding=1),
    lambda: nn.AvgPool2d(3, 1, padding=1, count_include_pad=False),
]


def conv(channels: int, out: int, draw: st.DrawFn, *, depthwise: bool = False) -> list[Any]:
    """A convolution, batch normalised or not, and an activation."""
    kernel, dilation = draw(st.sampled_from([1, 3])), draw(st.sampled_from([1, 1, 2]))
    groups = channels if depthwise else 1
    padding, bias = kernel // 2 * dilation, draw(st.booleans())
    layers = [
        nn.Conv2d(channels, out, kernel, 1, padding, dilation=dilation, groups=groups, bias=bias)
    ]
    if draw(st.booleans()):
        layers.append(nn.BatchNorm2d(out))
    layers.append(draw(st.sampled_from(FUSED))())
    if draw(st.integers(0, 3)) == 0:
        layers.append(draw(st.sampled_from(TABLES))())
    return layers


def block(channels: int, draw: st.DrawFn) -> tuple[Any, int]:
    """A block and its result's channels."""
    out = draw(CHANNELS)
    kinds = ["plain", "depthwise", "se", "residual", "branches", "pool", "move"]
    match draw(st.sampled_from(kinds)):
        case "plain":
            return nn.Sequential(*conv(channels, out, draw)), out
        case "depthwise":
            first = conv(channels, channels, draw, depthwise=True)
            return nn.Sequential(*first, *conv(channels, out, draw)), out
        case "se":
            gate = draw(st.sampled_from([nn.Hardsigmoid, nn.Sigmoid]))()
            return nn.Sequential(SqueezeExcite(channels, gate)), channels
        case "residual":
            body = nn.Sequential(*conv(channels, channels, draw))
            return Residual(body, draw(st.sampled_from(FUSED))()), channels
        case "branches":
            bodies = [
                nn.Sequential(*conv(channels, out, draw)) for _ in range(draw(st.integers(1, 2)))
            ]
            return Branches(bodies), channels + out * len(bodies)
        case "pool":
            return draw(st.sampled_from(POOLS))(), channels
        case _:
            kind = draw(st.sampled_from(MOVES))
            return Move(kind), channels + (kind == "constant")


def head(channels: int, size: tuple[int, int], draw: st.DrawFn) -> list[Any]:
    """What follows the last image."""
    ends: list[Any] = [draw(st.sampled_from([nn.Identity, nn.Sigmoid, lambda: nn.Softmax(1)]))()]
    match draw(st.sampled_from(["image", "pooled", "flat", "hidden"])):
        case "image":
            return ends
        case "pooled":
            return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 3), *ends]
        case "flat":
            return [nn.Flatten(), nn.Linear(channels * size[0] * size[1], 3), *ends]
        case _:
            features = channels * size[0] * size[1]
            middle = [nn.Linear(features, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3)]
            return [nn.Flatten(), *middle, *ends]


@st.composite
def networks(draw: st.DrawFn) -> tuple[Any, Any]:
    """A module with random parameters and statistics, in eval mode, and 4 inputs."""
    channels, side = draw(st.sampled_from([1, 3])), draw(st.sampled_from([4, 5, 8]))
    seed = draw(SEEDS)
    torch.manual_seed(seed)
    x = torch.randn(4, channels, side, side)
    out = draw(CHANNELS)
    layers: list[Any] = [*conv(channels, out, draw)]
    for _ in range(draw(st.integers(0, 3))):
        body, out = block(out, draw)
        layers.append(body)
    with torch.no_grad():
        size = tuple(nn.Sequential(*layers).eval()(x[:1]).shape[2:])
    layers += head(out, size, draw)
    module = nn.Sequential(*layers)
    with_statistics(module, seed)
    return module.eval(), x


def with_statistics(module: Any, seed: int) -> None:
    """Batch norms as after some training; one factor is zero."""
    generator = torch.Generator().manual_seed(seed)
    for norm in module.modules():
        if isinstance(norm, nn.modules.batchnorm._BatchNorm):
            shape = norm.running_mean.shape
            norm.running_mean.copy_(torch.randn(shape, generator=generator) * 0.3)
            norm.running_var.copy_(torch.rand(shape, generator=generator) + 0.3)
            norm.weight.data = torch.randn(shape, generator=generator)
            norm.bias.data = torch.randn(shape, generator=generator) * 0.3
            norm.weight.data[0] = 0.0


@st.composite
def options(draw: st.DrawFn) -> dict[str, Any]:
    """Arguments of prepare_qat."""
    weight = draw(st.sampled_from(["int8", "int4", "ternary", "binary"]))
    granularity = st.sampled_from(["channel", "tensor"])
    weights: dict[str, Any] = {"granularity": draw(granularity)}
    if weight in ("int8", "int4"):
        weights["symmetric"] = draw(st.booleans())
    config: dict[str, Any] = {
        "weight_quant": weights,
        "activation_quant": {"symmetric": draw(st.booleans())},
    }
    if draw(st.integers(0, 3)) == 0:
        dtype = draw(st.sampled_from(["float32", "int8", "binary"]))
        config["layers"] = {"0": {"weight_dtype": dtype, "symmetric": True}}
    return {
        "weight_dtype": weight,
        "activation_dtype": draw(st.sampled_from(["int8", "int4"])),
        "config": config,
    }


@st.composite
def cases(draw: st.DrawFn) -> Case:
    module, x = draw(networks())
    return Case(module, x, draw(options()))
