"""Convolutions: channel-first tensors around an NHWC convolution with OHWI weights."""

from __future__ import annotations

from uqfc.dialects import nn
from uqfc.errors import ModelError
from uqfc.frontend.builder import Builder
from uqfc.frontend.onnx_ops.transposed_convolution import check_weight, convolve_transposed
from uqfc.frontend.onnx_ops.windows import Window, as_images, as_tensor, widen
from uqfc.frontend.torch.call import Call
from uqfc.frontend.torch.ops.windows import per_axis
from uqfc.frontend.torch.registry import converter
from uqfc.frontend.values import UnsupportedUseError, Value, dims, known, rank


@converter("conv1d", "conv2d", "convolution", "conv_transpose1d", "conv_transpose2d")
def conv(call: Call, b: Builder) -> Value:
    """Of [N, C, …], or [C, …] without the axis of images."""
    x, weight, bias = call.product()
    spatial = rank(weight) - 2
    images = x if rank(x) == rank(weight) else b.reshape(x, (1, *dims(x)))
    if call.flag("transposed") or call.op.startswith("conv_transpose"):
        result = transposed(call, b, images, weight, bias)
    else:
        call.ignore("output_padding")
        result = plain(call, b, images, weight, bias, spatial)
    return result if rank(x) == rank(weight) else b.reshape(result, dims(result)[1:])


def plain(
    call: Call, b: Builder, x: Value, weight: Value, bias: Value | None, spatial: int
) -> Value:
    """With a weight of [O, C / groups, …]."""
    images, kernels = as_images(b, x), as_images(b, weight)
    dilations = per_axis(call, "dilation", spatial)
    low, high = padding(call, dims(weight)[2:], dilations)
    op = nn.Conv2dOp(
        b.ssa(images),
        b.ssa(kernels),
        None if bias is None else b.ssa(bias),
        strides=widen(per_axis(call, "stride", spatial), 1),
        padding=(*widen(low, 0), *widen(high, 0)),
        dilations=widen(dilations, 1),
        groups=call.integer("groups"),
    )
    return as_tensor(b, b.emit(op), spatial)


def padding(call: Call, kernel: tuple[int, ...], dilations: list[int]) -> tuple[list[int], ...]:
    """Padding before and after each spatial axis; the odd element of "same" comes last."""
    mode = call.get("padding")
    if not isinstance(mode, str):
        both = per_axis(call, "padding", len(kernel))
        return both, both
    if mode == "valid":
        return [0] * len(kernel), [0] * len(kernel)
    if mode != "same":
        raise ModelError(f"argument 'padding' is '{mode}', expected same or valid")
    totals = [d * (k - 1) for d, k in zip(dilations, kernel, strict=True)]
    return [t // 2 for t in totals], [t - t // 2 for t in totals]


def transposed(call: Call, b: Builder, x: Value, weight: Value, bias: Value | None) -> Value:
    """With a weight of [C, O / groups, …], which is known."""
    array, groups = known(weight), call.integer("groups")
    if array is None:
        raise UnsupportedUseError("argument 'weight' must be a constant")
    check_weight(x, array, groups)
    spatial = array.ndim - 2
    low = per_axis(call, "padding", spatial)
    extra = per_axis(call, "output_padding", spatial)
    window = Window(
        widen(array.shape[2:], 1),
        widen(per_axis(call, "stride", spatial), 1),
        widen(per_axis(call, "dilation", spatial), 1),
        widen(low, 0),
        widen([p - e for p, e in zip(low, extra, strict=True)], 0),
        (0, 0),
    )
    return convolve_transposed(b, x, array, bias, window, groups)
