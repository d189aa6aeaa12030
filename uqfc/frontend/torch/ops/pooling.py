"""Pools over windows and over whole images."""

from __future__ import annotations

from uqfc.dialects import nn
from uqfc.frontend.builder import Builder
from uqfc.frontend.onnx_ops.windows import as_images, as_tensor, widen
from uqfc.frontend.torch.call import Call
from uqfc.frontend.torch.ops.windows import per_axis
from uqfc.frontend.torch.registry import converter
from uqfc.frontend.values import UnsupportedUseError, Value, dims, rank

SPATIAL = {"adaptive_avg_pool1d": 1, "adaptive_avg_pool2d": 2, "_adaptive_avg_pool2d": 2}


@converter(*SPATIAL)
def adaptive_avg_pool(call: Call, b: Builder) -> Value:
    """The mean over the image, or over equal windows that do not overlap."""
    x, spatial = call.real_tensor("self"), SPATIAL[call.op]
    size, output = dims(x)[-spatial:], per_axis(call, "output_size", spatial)
    if all(n == 1 for n in output):
        return b.reduce("mean", x, range(rank(x) - spatial, rank(x)))
    if any(n % m for n, m in zip(size, output, strict=True)):
        raise UnsupportedUseError(f"sizes {list(size)} are no multiples of {output}")
    if rank(x) != spatial + 2:
        raise UnsupportedUseError(f"a tensor of rank {rank(x)}, supported: {spatial + 2}")
    window = widen([n // m for n, m in zip(size, output, strict=True)], 1)
    pooled = b.emit(nn.AvgPool2dOp(b.ssa(as_images(b, x)), window, window))
    return as_tensor(b, pooled, spatial)
