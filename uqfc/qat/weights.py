"""Quantization of a layer's weights in training, and what the compiler gets of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from uqfc.calibration import QuantizedWeights, WeightMethod, quantize_weights
from uqfc.dialects.quant import QuantParams
from uqfc.errors import CalibrationError, UqfcError
from uqfc.numerics import F32
from uqfc.passes.quantize_weights import (
    FEW_LEVELS,
    SYMMETRIC,
    WEIGHT_TYPES,
    ZERO_CHANNEL_LEVELS,
    WeightType,
)
from uqfc.qat.binarize import binarize
from uqfc.qat.estimators import Estimator, lsq_gradient_scale, quantize
from uqfc.qat.scales import LearnedScale

GRANULARITIES = {
    "channel": True,
    "per_channel": True,
    "tensor": False,
    "per_tensor": False,
}
"""Accepted spellings, and whether they mean a scale per output channel."""

ESTIMATORS = {
    "int8": Estimator.LSQ,
    "int4": Estimator.LSQ,
    "ternary": Estimator.CLIPPED,
    "binary": Estimator.CLIPPED,
}
"""What is used if the user does not say. With two or three levels a large share of the weights is
beyond the outer levels, where ``lsq`` would hold them for good."""


def weight_type(
    dtype: str, config: Mapping[str, Any] | None = None, layer: str = ""
) -> tuple[WeightType, int | None]:
    """What a layer's weights are stored as, and the axis (0 or None) that scales belong to.

    ``config``: ``{"symmetric": bool, "granularity": "channel" | "tensor"}``, either of which may be
    left out. Raises UqfcError, naming layer and field, for anything else.
    """
    where = f"layer '{layer}'" if layer else "weight_quant"
    config = {} if config is None else config
    if unknown := sorted(set(config) - {"symmetric", "granularity"}):
        raise UqfcError(
            f"{where}: unknown option(s) {', '.join(unknown)}; accepted: symmetric, granularity"
        )
    if dtype not in SYMMETRIC:
        raise UqfcError(f"{where}: weight dtype '{dtype}'; accepted: {', '.join(SYMMETRIC)}")
    symmetric = config.get("symmetric", SYMMETRIC[dtype])
    if not isinstance(symmetric, bool):
        raise UqfcError(f"{where}: symmetric is {symmetric!r}; accepted: true, false")
    if (dtype, symmetric) not in WEIGHT_TYPES:
        raise UqfcError(f"{where}: {dtype} weights are symmetric")
    granularity = config.get("granularity", "channel")
    if granularity not in GRANULARITIES:
        accepted = ", ".join(GRANULARITIES)
        raise UqfcError(f"{where}: granularity is {granularity!r}; accepted: {accepted}")
    return WEIGHT_TYPES[dtype, symmetric], 0 if GRANULARITIES[granularity] else None


def initial_parameters(
    weight: F32, dtype: str, kind: WeightType, axis: int | None
) -> QuantizedWeights:
    """Scales of least squared error, whatever the type.

    A channel of zeros gets the geometric mean of the others' scales, in whose steps a bias is
    rounded as well as theirs (binary, which has no zero: 1/256 of that); if all are zeros,
    ``quantize-weights``' scale for such channels.
    """
    if dtype in FEW_LEVELS:
        found = FEW_LEVELS[dtype](weight, axis)
    else:
        levels, symmetric = (kind.qmin, kind.qmax), kind.symmetric
        found = quantize_weights(
            weight, *levels, axis=axis, symmetric=symmetric, method=WeightMethod.MSE
        )
    if axis is None:
        used = np.asarray(np.any(weight))
    else:
        used = np.any(weight.reshape(len(weight), -1), axis=1)
    if used.all():
        return found
    others = np.log2(found.scale.astype(np.float64)[used])
    usual = np.exp2(others.mean()) if others.size else 1.0 / ZERO_CHANNEL_LEVELS
    usual = usual / 256 if dtype == "binary" else usual
    return found._replace(scale=np.where(used, found.scale, np.float32(usual)))


class WeightQuantizer(nn.Module):
    """The learned scales and fixed zero points of one layer's weights.

    Made from the weights, float32 with the output channels first. Types are those that
    ``quantize-weights`` gives: int8 ``i8<-127:127>`` or asymmetric ``u8``, int4 ``u4`` or symmetric
    ``i4``, ternary and binary ``i2<-1:1>``. ``learned`` and ``balanced`` are those of
    ``LearnedScale``, ``gradient_scale`` that of ``quantize``; by default a scale learns at the
    relative rate that LSQ gives it, with every estimator.
    """

    zero_point: Tensor

    def __init__(
        self,
        weight: Tensor,
        dtype: str,
        config: Mapping[str, Any] | None = None,
        *,
        estimator: Estimator | str | None = None,
        learned: bool = True,
        balanced: bool = True,
        gradient_scale: float | None = None,
        layer: str = "",
    ) -> None:
        super().__init__()
        self.kind, self.axis = weight_type(dtype, config, layer)
        self.dtype, self.layer = dtype, layer
        self.estimator = Estimator(estimator or ESTIMATORS[dtype])
        self.gradient_scale = gradient_scale
        found = self._initial(weight)
        self.scale = LearnedScale(found.scale, learned=learned, balanced=balanced)
        self.register_buffer("zero_point", torch.as_tensor(found.zero_point))
        self.to(weight.device)

    def _initial(self, weight: Tensor) -> QuantizedWeights:
        host: F32 = weight.detach().cpu().numpy()
        if not np.isfinite(host).all():
            raise CalibrationError(f"layer '{self.layer}': weights are not all finite")
        return initial_parameters(host, self.dtype, self.kind, self.axis)

    @torch.no_grad()
    def reset(self, weight: Tensor) -> None:
        """Parameters of least squared error for these weights; CalibrationError if not finite."""
        found = self._initial(weight)
        self.scale.reset(found.scale)
        self.zero_point.copy_(torch.as_tensor(found.zero_point))

    def forward(self, weight: Tensor, scale: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """``(w_hat, q)``: float32 with gradients to weight and scales, and 8-bit integers.

        ``q`` is uint8 for ``u8`` and ``u4``, else int8. ``scale``: that of ``self.scale()``, if it
        is known already.
        """
        if scale is None:
            scale = cast(Tensor, self.scale())
        kind, gain = self.kind, self.gradient_scale
        if gain is None:
            gain = lsq_gradient_scale(weight.numel() // scale.numel(), kind.qmax)
        options: dict[str, Any] = {"axis": self.axis, "gradient_scale": gain}
        if self.dtype == "binary":
            return binarize(weight, scale, self.estimator, **options)
        limits = kind.qmin, kind.qmax
        return quantize(weight, scale, self.zero_point, *limits, self.estimator, **options)

    @torch.no_grad()
    def export(self, weight: Tensor) -> tuple[QuantParams, NDArray[Any]]:
        """The type of the weights and their integers (8-bit), as ``forward`` computed them."""
        scale = self.scale()
        _, q = self(weight, scale)
        kind = self.kind
        params = QuantParams.of(
            kind.storage,
            scale.cpu().numpy(),
            self.zero_point.cpu().numpy(),
            axis=self.axis,
            qmin=kind.qmin,
            qmax=kind.qmax,
        )
        return params, q.cpu().numpy()
