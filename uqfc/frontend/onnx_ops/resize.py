"""Resize and Upsample: one ``nn.gather`` or ``nn.interpolate`` per axis that changes.

The positions follow ONNX's description of ``coordinate_transformation_mode``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from xdsl.dialects.builtin import f32

from uqfc.dialects import nn
from uqfc.dialects.tensors import Array
from uqfc.errors import ModelError
from uqfc.frontend.builder import Builder
from uqfc.frontend.node import Node
from uqfc.frontend.onnx_ops.interpolation import Axis, Sampling, nearest, taps
from uqfc.frontend.onnx_ops.registry import converter
from uqfc.frontend.values import (
    UnsupportedUseError,
    Value,
    check_size,
    constant,
    dims,
    kind,
    rank,
    wrap_axes,
)

TRANSFORMATIONS = (
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "tf_half_pixel_for_nn",
    "tf_crop_and_resize",
)
ROUNDING = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
POLICIES = ("stretch", "not_larger", "not_smaller")


@dataclass(frozen=True)
class Sizes:
    """The output's size and the scale of every axis of the input."""

    lengths: list[int]
    scales: list[float]


@converter("Upsample")
def upsample(node: Node, b: Builder) -> Value:
    """Opset 9; the positions are those of ``asymmetric``."""
    mode = node.choice("mode", "nearest", ("nearest", "linear"))
    x = node.input(0)
    scales = [float(s) for s in node.array(1, "scales").reshape(-1)]
    return resample(b, x, by_scales(x, scales), Sampling(mode, "asymmetric", "floor"), None)


@converter("Resize")
def resize(node: Node, b: Builder) -> Value:
    x = node.input(0)
    mode = node.choice("mode", "nearest", ("nearest", "linear", "cubic"))
    if node.version < 11:
        scales = [float(s) for s in node.array(1, "scales").reshape(-1)]
        sampling = Sampling(mode, "asymmetric", "floor")
        return resample(b, x, by_scales(x, scales), sampling, None)
    node.must_be("antialias", 0, 0)
    transformation = node.choice("coordinate_transformation_mode", "half_pixel", TRANSFORMATIONS)
    sampling = Sampling(
        mode,
        transformation,
        node.choice("nearest_mode", "round_prefer_floor", ROUNDING),
        node.real("cubic_coeff_a", -0.75),
        node.flag("exclude_outside"),
        node.real("extrapolation_value", 0.0),
    )
    given = node.ints("axes")
    axes = list(range(rank(x))) if given is None else wrap_axes(given, rank(x))
    sizes = requested_sizes(node, x, axes)
    crop = node.array(1, "roi") if transformation == "tf_crop_and_resize" else None
    return resample(b, x, sizes, sampling, None if crop is None else regions(crop, axes, rank(x)))


def by_scales(x: Value, scales: Sequence[float]) -> Sizes:
    if len(scales) != rank(x) or min(scales, default=1) <= 0:
        raise ModelError(f"scales {list(scales)} do not fit rank {rank(x)}")
    return Sizes([int(np.floor(d * s)) for d, s in zip(dims(x), scales, strict=True)], list(scales))


def requested_sizes(node: Node, x: Value, axes: Sequence[int]) -> Sizes:
    """From input 2 (scales) or input 3 (sizes) for the given axes."""
    policy = node.choice("keep_aspect_ratio_policy", "stretch", POLICIES)
    shape = dims(x)
    scales = [1.0] * len(shape)
    factors = node.optional_array(2, "scales")
    if factors is not None and factors.size:
        if factors.size != len(axes):
            raise ModelError(f"{factors.size} scales for {len(axes)} axes")
        for axis, factor in zip(axes, factors.reshape(-1), strict=True):
            scales[axis] = float(factor)
        return by_scales(x, scales)
    wanted = node.int_list(3, "sizes")
    if len(wanted) != len(axes) or min(wanted, default=1) < 1:
        raise ModelError(f"sizes {wanted} do not fit {len(axes)} axes")
    lengths = list(shape)
    ratios = [w / shape[a] for a, w in zip(axes, wanted, strict=True)]
    if policy != "stretch":
        ratio = min(ratios) if policy == "not_larger" else max(ratios)
        ratios = [ratio] * len(axes)
        wanted = [int(np.floor(ratio * shape[a] + 0.5)) for a in axes]
    for axis, size, ratio in zip(axes, wanted, ratios, strict=True):
        lengths[axis], scales[axis] = size, ratio
    return Sizes(lengths, scales)


def regions(roi: Array, axes: Sequence[int], count: int) -> list[tuple[float, float]]:
    """Start and end, as fractions, of what is cut out of every axis."""
    if roi.size != 2 * len(axes):
        raise ModelError(f"roi has {roi.size} values, expected {2 * len(axes)}")
    result = [(0.0, 1.0)] * count
    for index, axis in enumerate(axes):
        result[axis] = float(roi[index]), float(roi[index + len(axes)])
    return result


def resample(
    b: Builder,
    x: Value,
    sizes: Sizes,
    sampling: Sampling,
    crop: Sequence[tuple[float, float]] | None,
) -> Value:
    """Axis by axis; values outside a crop become the extrapolation value."""
    shape = dims(x)
    check_size(tuple(sizes.lengths), kind(x), "the result")
    if 0 in sizes.lengths:
        raise UnsupportedUseError(f"the result of shape {sizes.lengths} is empty")
    for index, size in enumerate(shape):
        region = None if crop is None else crop[index]
        if sizes.lengths[index] == size and sizes.scales[index] == 1.0 and region in (None, (0, 1)):
            continue
        axis = Axis(size, sizes.lengths[index], sizes.scales[index], region)
        x = resample_axis(b, x, index, axis, sampling)
    return x


def resample_axis(b: Builder, x: Value, index: int, axis: Axis, sampling: Sampling) -> Value:
    if sampling.mode == "nearest":
        result = b.gather(x, constant(nearest(axis, sampling)), index)
    else:
        if kind(x) != f32:
            raise UnsupportedUseError(f"mode '{sampling.mode}' takes floats, got {kind(x)}")
        picks, weights = taps(axis, sampling)
        op = nn.InterpolateOp(b.ssa(x), b.ssa(constant(picks)), b.ssa(constant(weights)), index)
        result = b.emit(op)
    outside = axis.outside(sampling)
    if not outside.any():
        return result
    view = [1] * rank(x)
    view[index] = axis.length
    return b.select(constant(outside.reshape(view)), constant(sampling.extrapolation), result)
