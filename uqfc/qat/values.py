"""What a value of the network is while it trains."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from uqfc.qat.points import Point


@dataclass(frozen=True)
class Scheme:
    """A point in one forward pass: its parameters as tensors and numbers."""

    point: Point
    scale: Tensor
    """float32 scalar, with a gradient to its logarithm."""
    zero_point: int
    zero_point_tensor: Tensor


@dataclass(frozen=True)
class Value:
    """``real``: float32, NHWC as in the IR, with a gradient. ``q`` (uint8), ``scheme``: of a point.

    Then ``real == float32(q - zero_point) * scale``. If ``q`` is None, that tells it.
    """

    real: Tensor
    q: Tensor | None = None
    scheme: Scheme | None = None

    @property
    def scale(self) -> Tensor:
        """The scale of a value with a scheme, without gradient."""
        assert self.scheme is not None
        return self.scheme.scale.detach()
