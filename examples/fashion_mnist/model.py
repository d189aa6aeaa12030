"""MobileNetV3-Small (Howard et al. 2019, "Searching for MobileNetV3", table 2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

__all__ = ["MobileNetV3Small"]


@dataclass(frozen=True)
class BlockSpec:
    """One row of the paper's table: an inverted residual block.

    Attributes:
        kernel: height and width of the depthwise filter, in pixels.
        expanded: channels between the expansion and the projection.
        out: channels after the projection.
        squeeze_excite: whether channels are re-weighted before the projection.
        activation: ReLU or hard-swish, after the expansion and the depthwise filter.
        stride: of the depthwise filter, in pixels.
    """

    kernel: int
    expanded: int
    out: int
    squeeze_excite: bool
    activation: type[nn.Module]
    stride: int


BLOCKS = (
    BlockSpec(3, 16, 16, True, nn.ReLU, 2),
    BlockSpec(3, 72, 24, False, nn.ReLU, 2),
    BlockSpec(3, 88, 24, False, nn.ReLU, 1),
    BlockSpec(5, 96, 40, True, nn.Hardswish, 2),
    BlockSpec(5, 240, 40, True, nn.Hardswish, 1),
    BlockSpec(5, 240, 40, True, nn.Hardswish, 1),
    BlockSpec(5, 120, 48, True, nn.Hardswish, 1),
    BlockSpec(5, 144, 48, True, nn.Hardswish, 1),
    BlockSpec(5, 288, 96, True, nn.Hardswish, 2),
    BlockSpec(5, 576, 96, True, nn.Hardswish, 1),
    BlockSpec(5, 576, 96, True, nn.Hardswish, 1),
)
STEM_CHANNELS = 16
LAST_CONV_CHANNELS = 576
HEAD_FEATURES = 1024


def make_divisible(value: float, divisor: int) -> int:
    """Round to the nearest multiple of `divisor`, never more than 10 % below `value`."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded if rounded >= 0.9 * value else rounded + divisor


def conv_bn(
    channels: int,
    out: int,
    kernel: int,
    *,
    stride: int = 1,
    groups: int = 1,
    activation: type[nn.Module] | None,
) -> nn.Sequential:
    """Build a "same"-padded convolution, batch normalisation and activation, if any."""
    layers: list[nn.Module] = [
        nn.Conv2d(channels, out, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out, eps=1e-3),
    ]
    if activation is not None:
        layers.append(activation(inplace=True))
    return nn.Sequential(*layers)


class SqueezeExcite(nn.Module):
    """Scale each channel by a gate in 0..1, computed from all channels' means."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = make_divisible(channels / 4, 8)
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, squeezed, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(squeezed, channels, 1),
            nn.Hardsigmoid(inplace=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to the same shape."""
        return x * self.gate(x)


class InvertedResidual(nn.Module):
    """Expand, filter each channel, re-weight, project; add the input if shapes allow."""

    def __init__(self, channels: int, spec: BlockSpec) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        if spec.expanded != channels:
            layers.append(conv_bn(channels, spec.expanded, 1, activation=spec.activation))
        layers.append(
            conv_bn(
                spec.expanded,
                spec.expanded,
                spec.kernel,
                stride=spec.stride,
                groups=spec.expanded,
                activation=spec.activation,
            )
        )
        if spec.squeeze_excite:
            layers.append(SqueezeExcite(spec.expanded))
        layers.append(conv_bn(spec.expanded, spec.out, 1, activation=None))
        self.layers = nn.Sequential(*layers)
        self.residual = spec.stride == 1 and channels == spec.out

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, out, ceil(H / stride), ceil(W / stride)]."""
        y = self.layers(x)
        return x + y if self.residual else y


class MobileNetV3Small(nn.Module):
    """Classifier of float32 images [N, 3, H, W]; returns logits [N, classes]."""

    def __init__(self, classes: int = 10, dropout: float = 0.2) -> None:
        super().__init__()
        self.stem = conv_bn(3, STEM_CHANNELS, 3, stride=2, activation=nn.Hardswish)
        blocks: list[nn.Module] = []
        channels = STEM_CHANNELS
        for spec in BLOCKS:
            blocks.append(InvertedResidual(channels, spec))
            channels = spec.out
        self.blocks = nn.Sequential(*blocks)
        self.last_conv = conv_bn(channels, LAST_CONV_CHANNELS, 1, activation=nn.Hardswish)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Sequential(
            nn.Linear(LAST_CONV_CHANNELS, HEAD_FEATURES),
            nn.Hardswish(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(HEAD_FEATURES, classes),
        )
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map float32 [N, 3, H, W] to logits [N, classes]."""
        features = self.last_conv(self.blocks(self.stem(x)))
        return self.head(torch.flatten(self.pool(features), 1))
