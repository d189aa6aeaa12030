"""Convolutions: channel-first tensors around an NHWC convolution with OHWI weights."""

from __future__ import annotations

from uqfc.dialects import nn
from uqfc.frontend.builder import Builder
from uqfc.frontend.onnx_ops.windows import as_images, as_tensor, widen
from uqfc.frontend.torch.call import Call
from uqfc.frontend.torch.ops.windows import per_axis
from uqfc.frontend.torch.registry import converter
from uqfc.frontend.values import UnsupportedUseError, Value, dims, rank


@converter("conv1d", "conv2d")
def conv(call: Call, b: Builder) -> Value:
    """Of [N, C, …] or [C, …] with a weight of [O, C / groups, …]."""
    x, weight, bias = call.product()
    spatial = rank(weight) - 2
    batched = rank(x) == rank(weight)
    images = as_images(b, x if batched else b.reshape(x, (1, *dims(x))))
    dilations = per_axis(call, "dilation", spatial)
    low, high = padding(call, dims(weight)[2:], dilations)
    op = nn.Conv2dOp(
        b.ssa(images),
        b.ssa(as_images(b, weight)),
        None if bias is None else b.ssa(bias),
        strides=widen(per_axis(call, "stride", spatial), 1),
        padding=(*widen(low, 0), *widen(high, 0)),
        dilations=widen(dilations, 1),
        groups=call.integer("groups"),
    )
    result = as_tensor(b, b.emit(op), spatial)
    return result if batched else b.reshape(result, dims(result)[1:])


def padding(call: Call, kernel: tuple[int, ...], dilations: list[int]) -> tuple[list[int], ...]:
    """Padding before and after each spatial axis; the odd element of "same" comes last."""
    mode = call.get("padding")
    if not isinstance(mode, str):
        both = per_axis(call, "padding", len(kernel))
        return both, both
    if mode == "valid":
        return [0] * len(kernel), [0] * len(kernel)
    if mode != "same":
        raise UnsupportedUseError(f"argument 'padding' is '{mode}', supported: same, valid")
    totals = [d * (k - 1) for d, k in zip(dilations, kernel, strict=True)]
    return [t // 2 for t in totals], [t - t // 2 for t in totals]
