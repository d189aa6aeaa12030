"""Normalisations. Those that depend only on constants become a multiplication and an addition."""

from __future__ import annotations

import numpy as np

from uqfc.dialects.tensors import Array
from uqfc.frontend.builder import Builder
from uqfc.frontend.onnx_ops.normalization import affine, per_channel
from uqfc.frontend.torch.call import Call
from uqfc.frontend.torch.registry import converter
from uqfc.frontend.values import UnsupportedUseError, Value, constant, dims, known, rank


@converter("batch_norm", "_native_batch_norm_legit_no_training")
def batch_norm(call: Call, b: Builder) -> list[Value]:
    """``x * a + c`` per channel, with ``a`` and ``c`` computed in float64."""
    call.ignore("momentum", "cudnn_enabled")
    if call.flag("training"):
        raise UnsupportedUseError("training is on: export the module in eval mode")
    x = call.real_tensor("input")
    channels = dims(x)[1] if rank(x) > 1 else 1
    given = [
        statistic(call, "weight", np.ones(channels)),
        statistic(call, "bias", np.zeros(channels)),
        statistic(call, "running_mean", None),
        statistic(call, "running_var", None),
    ]
    factor, offset = affine(given, call.real("eps"))
    x = b.mul(x, per_channel(b, constant(factor), x))
    return [b.add(x, per_channel(b, constant(offset), x))]


def statistic(call: Call, name: str, default: Array | None) -> Array:
    """A constant argument; UnsupportedUseError if it is computed, or missing without default."""
    value = known(call.optional_real(name))
    if value is None and not call.given(name):
        value = default
    if value is None:
        raise UnsupportedUseError(f"argument '{name}' must be a constant")
    return value
