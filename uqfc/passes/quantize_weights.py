"""``quantize-weights``: constant weights of the chosen type, with rounding that suits the data.

By default int8 weights are symmetric per output channel, ``i8<-127:127>``, and int4 weights
asymmetric, ``u4``, which costs a kernel nothing; ternary and binary weights are ``i2<-1:1>`` with
the scale of the least squared error. With statistics of a layer's input (``LayerStatistics``) int4
and ternary weights are rounded to reconstruct the layer's output, and the bias takes up the
expected difference that is left, of binary weights too. Weights of 8-bit floats are rounded to
nearest, the largest of a channel being the largest number of the format. The weight operand
becomes constant → ``quant.scast`` → ``quant.dcast``.

Law: each integer weight moves by at most scale / 2 if it is rounded to nearest and its range is not
clipped; with statistics the squared error of the layer's output is never above that.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.rewriter import Rewriter

from uqfc import float8
from uqfc.calibration import (
    GramAccumulator,
    Quadratic,
    QuantizedWeights,
    WeightMethod,
    adaptive_round,
    bias_correction,
    binary_weights,
    float8_scale,
    quantize_weights,
    signs,
    ternary_weights,
)
from uqfc.dialects import nn
from uqfc.dialects.quant import (
    STORAGE_ELEMENTS,
    DcastOp,
    QuantParams,
    ScastOp,
    UniformType,
    uniform_of,
)
from uqfc.dialects.tensors import numpy_dtype
from uqfc.errors import CalibrationError, UqfcError
from uqfc.float8 import FORMATS, Float8
from uqfc.numerics import F32, I32, dequantize, quantize
from uqfc.passes.select_bit_width import decision_of
from uqfc.passes.support.quantizable import LAYERS
from uqfc.passes.support.rewriting import constant_of, with_operand_list

LARGEST_BIAS = float(2**30)
"""A bias in units of ``sx * sw`` stays below this, so that it fits the int32 accumulator."""
LARGEST_SCALE = 2.0**126
"""Biases that need a larger one do not fit: ``convert-to-integer`` leaves such a layer alone."""
ZERO_CHANNEL_LEVELS = float(2**24)
"""Channels without any weight: the scale resolves their bias into so many steps."""


@dataclass(frozen=True)
class WeightType:
    storage: str
    qmin: int
    qmax: int
    symmetric: bool
    method: str


WEIGHT_TYPES: dict[tuple[str, bool], WeightType] = {
    ("int8", True): WeightType("i8", -127, 127, symmetric=True, method="minmax"),
    ("int8", False): WeightType("u8", 0, 255, symmetric=False, method="minmax"),
    ("int4", True): WeightType("i4", -8, 7, symmetric=True, method="mse"),
    ("int4", False): WeightType("u4", 0, 15, symmetric=False, method="mse"),
    ("ternary", True): WeightType("i2", -1, 1, symmetric=True, method="mse"),
    ("binary", True): WeightType("i2", -1, 1, symmetric=True, method="mse"),
}
"""By weight dtype and whether it is symmetric."""
SYMMETRIC = {"int8": True, "int4": False, "ternary": True, "binary": True}
"""What is used if the user does not say: asymmetric int4 costs a kernel nothing, int8 does."""
FEW_LEVELS = {"ternary": ternary_weights, "binary": binary_weights}
FORMATS_OF_DTYPES = {form.dtype: form for form in FORMATS.values()}
RECONSTRUCTED = ("int4", "ternary", "binary")
"""Whose statistics are used."""
GRANULARITIES = ("per_channel", "per_tensor")


@dataclass(frozen=True)
class LayerStatistics:
    """What calibration saw at the input of a layer: patches in the order of its weights."""

    gram: GramAccumulator


def float_array(value: SSAValue | None) -> F32 | None:
    array = constant_of(value)
    return None if array is None else np.asarray(array, np.float32)


def input_scale(layer: nn.Layer) -> float | None:
    """The scale of a layer's quantized input; None if it is not quantized."""
    owner = layer.x.owner
    return uniform_of(owner.x).scales[0] if isinstance(owner, DcastOp) else None


def usable_scales(scale: F32, weight: F32, bias: F32 | None, x_scale: float) -> F32:
    """Scales with which every bias fits the accumulator and channels of zeros resolve theirs.

    ``scale`` has one value per output channel, or one for the tensor.
    """
    channels = len(weight) if scale.size > 1 else 1
    magnitude = np.zeros(len(weight)) if bias is None else np.abs(bias.astype(np.float64))
    magnitude = magnitude if channels > 1 else magnitude.max(keepdims=True)
    least = magnitude / (x_scale * LARGEST_BIAS)
    empty = ~np.any(weight.reshape(channels, -1), axis=1)
    resolving = np.maximum(magnitude / x_scale, 1.0) / ZERO_CHANNEL_LEVELS
    wanted = np.where(empty, resolving, np.maximum(scale.astype(np.float64), least))
    wanted = np.minimum(wanted, LARGEST_SCALE)
    return np.nextafter(wanted.astype(np.float32), np.float32(np.inf))


def first_guess(
    weight: F32, dtype: str, kind: WeightType, axis: int | None, method: str
) -> QuantizedWeights:
    """Parameters from the weights alone."""
    if dtype in FEW_LEVELS and method == WeightMethod.MSE:
        return FEW_LEVELS[dtype](weight, axis)
    limits, symmetric = (kind.qmin, kind.qmax), kind.symmetric
    return quantize_weights(weight, *limits, axis=axis, symmetric=symmetric, method=method)


def quantized(
    weight: F32, kind: WeightType, scale: F32, zero_point: I32, gram: Quadratic | None
) -> I32:
    """Integers of ``weight`` (axis 0: output channels)."""
    if gram is not None:
        rows = weight.reshape(len(weight), -1)
        q = adaptive_round(rows, gram, scale, zero_point, kind.qmin, kind.qmax)
        return q.reshape(weight.shape)
    shape = (-1, *[1] * (weight.ndim - 1))
    return quantize(weight, scale.reshape(shape), zero_point.reshape(shape), kind.qmin, kind.qmax)


@dataclass(frozen=True)
class QuantizedLayer:
    """Constants of one layer: integers (codes), what they stand for, the bias if that changes."""

    q: I32
    params: QuantParams
    bias: F32 | None


def float8_layer(weight: F32, form: Float8, axis: int | None) -> QuantizedLayer:
    """Codes of weights, with scales per output channel (axis 0), or one."""
    rows = weight.reshape(len(weight) if axis == 0 else 1, -1)
    largest = np.abs(rows).max(axis=1, initial=0.0)
    params = QuantParams.of(form.name, float8_scale(-largest, largest, form.largest), axis=axis)
    codes = float8.quantize(weight, params.broadcast(weight.shape)[0], form)
    return QuantizedLayer(codes.astype(np.int32), params, None)


@dataclass(frozen=True)
class QuantizeWeightsPass(ModulePass):
    """``granularity`` is per_channel or per_tensor; ``symmetric`` and ``ranges`` (minmax or mse)
    default to what suits the weight type; 8-bit floats are symmetric, and never clipped.
    ``statistics`` (by layer name) come from calibration and are given in code only, as is
    ``memo``: what was computed for (layer, weight type), which is taken from there when the pass
    runs on another copy of the same calibrated network."""

    name = "quantize-weights"
    granularity: str = "per_channel"
    symmetric: bool | None = None
    ranges: str | None = None
    statistics: Mapping[str, LayerStatistics] = field(default_factory=dict[str, LayerStatistics])
    memo: MutableMapping[tuple[str, str], QuantizedLayer] | None = None

    def __post_init__(self) -> None:
        if self.granularity not in GRANULARITIES:
            accepted = ", ".join(GRANULARITIES)
            raise UqfcError(f"weight granularity '{self.granularity}'; accepted: {accepted}")
        if self.ranges is not None and self.ranges not in list(WeightMethod):
            accepted = ", ".join(WeightMethod)
            raise UqfcError(f"weight ranges '{self.ranges}'; accepted: {accepted}")

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for layer in [o for o in op.walk() if isinstance(o, LAYERS)]:
            self.rewrite(layer)

    def rewrite(self, layer: nn.Layer) -> None:
        decision, weight = decision_of(layer), float_array(layer.weight)
        x_scale = input_scale(layer)
        if decision is None or weight is None or x_scale is None:
            return
        if decision.chosen not in (*SYMMETRIC, *FORMATS_OF_DTYPES):
            return
        key = layer.layer, decision.chosen
        made = None if self.memo is None else self.memo.get(key)
        if made is None:
            made = self.quantize(*key, weight, float_array(layer.bias), x_scale)
            if self.memo is not None:
                self.memo[key] = made
        element = STORAGE_ELEMENTS[made.params.storage]
        constant = nn.ConstantOp(made.q.astype(numpy_dtype(element)), element)
        cast = ScastOp(constant, UniformType(made.params))
        restored = DcastOp(cast)
        added: list[Operation] = [constant, cast, restored]
        new_bias = None if made.bias is None else nn.ConstantOp(made.bias)
        if new_bias is not None:
            added.append(new_bias)
        quantized_layer = with_operand_list(layer, weight=restored, bias=new_bias)
        Rewriter.replace_op(layer, [*added, quantized_layer])

    def quantize(
        self, layer: str, dtype: str, weight: F32, bias: F32 | None, x_scale: float
    ) -> QuantizedLayer:
        """Weights of a type. UqfcError for a symmetry that the type lacks; CalibrationError for
        values that are not finite."""
        if not all(v is None or np.isfinite(v).all() for v in (weight, bias)):
            raise CalibrationError(f"layer '{layer}': weights or bias are not all finite")
        axis = 0 if self.granularity == "per_channel" else None
        if dtype in FORMATS_OF_DTYPES:
            if self.symmetric is False:
                raise UqfcError(f"layer '{layer}': {dtype} weights are symmetric")
            return float8_layer(weight, FORMATS_OF_DTYPES[dtype], axis)
        symmetric = SYMMETRIC[dtype] if self.symmetric is None else self.symmetric
        if (dtype, symmetric) not in WEIGHT_TYPES:
            raise UqfcError(f"layer '{layer}': {dtype} weights are symmetric")
        kind = WEIGHT_TYPES[dtype, symmetric]
        guess = first_guess(weight, dtype, kind, axis, self.ranges or kind.method)
        scale = usable_scales(np.atleast_1d(guess.scale), weight, bias, x_scale)
        zero_point = np.atleast_1d(guess.zero_point)
        seen = self.statistics.get(layer) if dtype in RECONSTRUCTED else None
        if dtype == "binary":
            q = signs(weight)
        else:
            q = quantized(
                weight, kind, scale, zero_point, None if seen is None else seen.gram.quadratic
            )
        params = QuantParams.of(
            kind.storage, scale, zero_point, axis=axis, qmin=kind.qmin, qmax=kind.qmax
        )
        if seen is None:
            return QuantizedLayer(q, params, None)
        restored = dequantize(q, *params.broadcast(weight.shape))
        shift = bias_correction(weight, restored, seen.gram.mean)
        corrected = (np.zeros(len(weight)) if bias is None else bias) + shift
        return QuantizedLayer(q, params, corrected.astype(np.float32))
