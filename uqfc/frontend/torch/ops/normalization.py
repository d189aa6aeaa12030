"""Normalisations. Those that depend only on constants become a multiplication and an addition."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from uqfc.dialects import nn
from uqfc.dialects.tensors import Array
from uqfc.errors import ModelError
from uqfc.frontend.builder import Builder
from uqfc.frontend.onnx_ops.normalization import affine, normalized, per_channel
from uqfc.frontend.torch.call import Call
from uqfc.frontend.torch.registry import converter
from uqfc.frontend.values import UnsupportedUseError, Value, constant, dims, known, rank

SMALLEST = float(np.finfo(np.float32).eps)


@converter("_native_batch_norm_legit_no_training")
def batch_norm(call: Call, b: Builder) -> list[Value]:
    """``x * a + c`` per channel, with ``a`` and ``c`` computed in float64 of the float32 epsilon
    that ONNX files have, too."""
    call.ignore("momentum")
    x = call.real_tensor("input")
    channels = dims(x)[1] if rank(x) > 1 else 1
    given = [
        statistic(call, "weight", np.ones(channels)),
        statistic(call, "bias", np.zeros(channels)),
        statistic(call, "running_mean", None),
        statistic(call, "running_var", None),
    ]
    factor, offset = affine(given, float(np.float32(call.real("eps"))))
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


@converter("layer_norm", "native_layer_norm")
def layer_norm(call: Call, b: Builder) -> Value | list[Value]:
    call.ignore("cudnn_enable")
    tail = call.ints("normalized_shape")
    scale = call.optional_real("weight") or constant(np.ones(tail, np.float32))
    bias = call.optional_real("bias") or constant(np.zeros(tail, np.float32))
    x = b.ssa(call.real_tensor("input"))
    result = b.emit(nn.LayerNormOp(x, b.ssa(scale), b.ssa(bias), call.real("eps")))
    return result if call.op == "layer_norm" else [result]


@converter("rms_norm")
def rms_norm(call: Call, b: Builder) -> Value:
    """``x / sqrt(mean(x * x) + eps) * weight`` over the last dimensions."""
    x, tail = call.real_tensor("input"), call.ints("normalized_shape")
    epsilon = call.real("eps") if call.given("eps") else SMALLEST
    axes = range(rank(x) - len(tail), rank(x))
    power = b.reduce("mean", b.mul(x, x), axes)
    normal = b.div(x, b.unary("sqrt", b.add(power, constant(epsilon))))
    weight = call.optional_real("weight")
    return normal if weight is None else b.mul(normal, weight)


@converter("group_norm")
def group_norm(call: Call, b: Builder) -> Value:
    call.ignore("cudnn_enabled")
    return by_groups(call, b, call.integer("num_groups"))


@converter("native_group_norm")
def native_group_norm(call: Call, b: Builder) -> list[Value]:
    call.ignore("N", "C", "HxW")
    return [by_groups(call, b, call.integer("group"))]


def by_groups(call: Call, b: Builder, groups: int) -> Value:
    """Each group of channels of each image normalised; scale and shift per channel."""
    x = call.real_tensor("input")
    n, c, *rest = dims(x)
    if groups < 1 or c % groups:
        raise ModelError(f"{c} channels do not make {groups} groups")
    grouped = b.reshape(x, (n, groups, c // groups * prod(rest)))
    normal = b.reshape(normalized(b, grouped, [2], call.real("eps")), dims(x))
    return scaled_channels(call, b, normal)


@converter("instance_norm")
def instance_norm(call: Call, b: Builder) -> Value:
    """Each channel of each image normalised."""
    call.ignore("running_mean", "running_var", "momentum", "cudnn_enabled")
    call.must_be("use_input_stats", True)
    x = call.real_tensor("input")
    normal = normalized(b, x, range(2, rank(x)), call.real("eps"))
    return scaled_channels(call, b, normal)


@converter("_native_batch_norm_legit")
def own_statistics(call: Call, b: Builder) -> list[Value]:
    """Each channel normalised over the whole batch: what instance norm is decomposed to."""
    call.ignore("momentum", "training")
    x = call.real_tensor("input")
    axes: Sequence[int] = [0, *range(2, rank(x))]
    return [scaled_channels(call, b, normalized(b, x, axes, call.real("eps")))]


def scaled_channels(call: Call, b: Builder, x: Value) -> Value:
    """``x * weight + bias`` per channel, as far as they are given."""
    weight, bias = call.optional_real("weight"), call.optional_real("bias")
    if weight is not None:
        x = b.mul(x, per_channel(b, weight, x))
    return x if bias is None else b.add(x, per_channel(b, bias, x))
