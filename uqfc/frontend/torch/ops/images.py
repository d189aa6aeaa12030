"""Ops that rearrange or resample images [N, C, H, W]."""

from __future__ import annotations

import numpy as np

from uqfc.frontend.builder import Builder
from uqfc.frontend.onnx_ops.interpolation import Sampling
from uqfc.frontend.onnx_ops.resize import Sizes, resample
from uqfc.frontend.torch.call import Call
from uqfc.frontend.torch.registry import converter
from uqfc.frontend.values import Value, constant, dims, rank


@converter("pixel_shuffle", moves=True)
def pixel_shuffle(call: Call, b: Builder) -> Value:
    """[…, C * r * r, H, W] to […, C, H * r, W * r]."""
    x, r = call.value("self"), call.integer("upscale_factor")
    *n, c, h, w = dims(x)
    k = len(n)
    axes = [*range(k), k, k + 3, k + 1, k + 4, k + 2]
    blocks = b.transpose(b.reshape(x, (*n, c // r // r, r, r, h, w)), axes)
    return b.reshape(blocks, (*n, c // r // r, h * r, w * r))


@converter("pixel_unshuffle", moves=True)
def pixel_unshuffle(call: Call, b: Builder) -> Value:
    """[…, C, H * r, W * r] to […, C * r * r, H, W]."""
    x, r = call.value("self"), call.integer("downscale_factor")
    *n, c, h, w = dims(x)
    k = len(n)
    axes = [*range(k), k, k + 2, k + 4, k + 1, k + 3]
    blocks = b.transpose(b.reshape(x, (*n, c, h // r, r, w // r, r)), axes)
    return b.reshape(blocks, (*n, c * r * r, h // r, w // r))


@converter("channel_shuffle", moves=True)
def channel_shuffle(call: Call, b: Builder) -> Value:
    """Channel ``i`` of group ``g`` becomes channel ``g`` of group ``i``."""
    x, groups = call.value("self"), call.integer("groups")
    n, c, *size = dims(x)
    mixed = b.reshape(x, (n, groups, c // groups, *size))
    return b.reshape(b.transpose(mixed, [0, 2, 1, *range(3, rank(mixed))]), dims(x))


def spatial_sizes(call: Call, x: Value) -> Sizes:
    """From the result's size or the scale of each spatial axis."""
    call.ignore("output_size", "scale_factors", "scales", "scales_h", "scales_w")
    lead, size = dims(x)[:2], dims(x)[2:]
    given = call.get("scale_factors")
    if given is None:
        lengths = call.ints("output_size")
        scales = [m / n for m, n in zip(lengths, size, strict=True)]
    else:
        scales = [float(s) for s in given]
        lengths = [int(n * s) for n, s in zip(size, scales, strict=True)]
    return Sizes([*lead, *lengths], [1.0, 1.0, *scales])


@converter("upsample_nearest1d", "upsample_nearest2d", moves=True)
def upsample_nearest(call: Call, b: Builder) -> Value:
    """Element ``i`` is ``x[floor(i * scale)]``, the product in float32 as torch has it."""
    x = call.value("input")
    sizes = spatial_sizes(call, x)
    for axis in range(2, rank(x)):
        size, length = dims(x)[axis], sizes.lengths[axis]
        scale = np.float32(1.0 / sizes.scales[axis])
        index = np.floor(np.arange(length, dtype=np.float32) * scale).astype(np.int64)
        x = b.gather(x, constant(np.minimum(index, size - 1)), axis)
    return x


MODES = {
    "upsample_linear1d": "linear",
    "upsample_bilinear2d": "linear",
    "upsample_bicubic2d": "cubic",
}


@converter(*MODES)
def upsample(call: Call, b: Builder) -> Value:
    """Linear or cubic, between the centres of pixels or of corner pixels."""
    x = call.real_tensor("input")
    sizes = spatial_sizes(call, x)
    if call.flag("align_corners"):
        ratios = [m / n for m, n in zip(sizes.lengths, dims(x), strict=True)]
        return resample(
            b, x, Sizes(sizes.lengths, ratios), Sampling(MODES[call.op], "align_corners", ""), None
        )
    return resample(b, x, sizes, Sampling(MODES[call.op], "half_pixel", ""), None)
