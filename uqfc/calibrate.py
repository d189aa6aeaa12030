"""Runs a float network on data to find the range of every quantize point, and layer statistics."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from xdsl.dialects.builtin import FloatAttr, ModuleOp, f64
from xdsl.dialects.func import FuncOp
from xdsl.ir import BlockArgument, Operation

from uqfc.calibration import (
    GramAccumulator,
    Observer,
    make_observer,
    quantize_weights,
    reconstruction_error,
)
from uqfc.dialects import nn
from uqfc.dialects.quant import ObserveOp
from uqfc.dialects.tensors import Array, int_tuple, shape_of
from uqfc.errors import CalibrationError
from uqfc.interpreter import Interpreter, Window, conv2d_patches, input_names
from uqfc.numerics import F32
from uqfc.passes.fold_calibration import set_range
from uqfc.passes.quantize_weights import LayerStatistics
from uqfc.passes.select_bit_width import SENSITIVITY
from uqfc.passes.support.quantizable import LAYERS

Progress = Callable[[str, int], None]
"""Called with a stage's name and how many steps of it are done."""

PATCHES_PER_SAMPLE = 64
"""Rows of a layer's input that enter its statistics, of each sample; evenly spaced."""
MOST_GRAM_ELEMENTS = 1 << 22
"""Layers with larger Gram matrices (groups * K * K) are rounded to nearest: 32 MB each."""


def gram_shape(layer: nn.Layer) -> tuple[int, int]:
    """(groups, K) of the layer's reduction."""
    weight = shape_of(layer.weight)
    groups = layer.groups.value.data if isinstance(layer, nn.Conv2dOp) else 1
    return groups, int(np.prod(weight[1:]))


def patches(layer: nn.Layer, x: F32) -> F32:
    """Some rows [n, groups, K] that the layer multiplies its weights with."""
    groups, k = gram_shape(layer)
    if isinstance(layer, nn.LinearOp):
        return spaced(x.reshape(-1, 1, k))
    window = Window(int_tuple(layer.strides), int_tuple(layer.padding), int_tuple(layer.dilations))
    kernel = shape_of(layer.weight)[1:3]
    view = conv2d_patches(x, kernel, window)
    rows = view.reshape(view.shape[0] * view.shape[1], *view.shape[2:])
    picked = spaced(rows, 8)[:, :: max(1, view.shape[2] // 8)]
    flat = picked.reshape(-1, *kernel, groups, view.shape[-1] // groups)
    return spaced(flat.transpose(0, 3, 1, 2, 4).reshape(len(flat), groups, k))


def spaced(rows: Array, count: int = PATCHES_PER_SAMPLE) -> Array:
    """At most about ``count`` rows, evenly spaced."""
    return rows[:: max(1, len(rows) // count)]


@dataclass
class Collector:
    """Receives every op's result from the interpreter and feeds observers."""

    method: str
    with_statistics: bool
    observers: dict[str, Observer] = field(default_factory=dict[str, Observer])
    statistics: dict[str, LayerStatistics] = field(default_factory=dict[str, LayerStatistics])
    sample: int = 0

    def __call__(self, op: Operation, results: Sequence[Array]) -> None:
        if not isinstance(op, ObserveOp):
            return
        x = np.asarray(results[0], np.float32)
        point = op.point.data
        if "tied" not in op.attributes:
            if point not in self.observers:
                self.observers[point] = make_observer(self.method)
            self.observers[point].update(x, name=source_name(op), sample=self.sample)
        if self.with_statistics:
            for use in op.result.uses:
                if isinstance(use.operation, LAYERS) and use.index == 0:
                    self.collect(use.operation, x)

    def collect(self, layer: nn.Layer, x: F32) -> None:
        groups, k = gram_shape(layer)
        if groups * k * k > MOST_GRAM_ELEMENTS:
            return
        if layer.layer not in self.statistics:
            self.statistics[layer.layer] = LayerStatistics(GramAccumulator(k, groups))
        self.statistics[layer.layer].gram.update(patches(layer, x))


def source_name(op: ObserveOp) -> str:
    """What the user knows the observed tensor by: the layer, or the input, that it comes from."""
    value = op.x
    while isinstance(owner := value.owner, Operation):
        if nn.layer_name(owner) or not owner.operands:
            return nn.layer_name(owner)
        value = owner.operands[0]
    function = owner.parent_op()
    if not isinstance(value, BlockArgument) or not isinstance(function, FuncOp):
        return op.point.data
    return input_names(function)[value.index]


def name_layers(module: ModuleOp) -> None:
    """Give every layer a name of its own, as statistics are kept by name."""
    seen: set[str] = set()
    for index, op in enumerate(module.walk()):
        if not isinstance(op, LAYERS):
            continue
        name = op.layer or f"{op.name.split('.')[1]}_{index}"
        while name in seen:
            name = f"{name}_{index}"
        seen.add(name)
        nn.with_layer(op, name)


def calibrate(
    module: ModuleOp,
    data: Iterable[Mapping[str, Array]],
    method: str,
    *,
    with_statistics: bool,
    progress: Progress | None = None,
) -> dict[str, LayerStatistics]:
    """Set the range of every ``quant.observe``; returns the layers' statistics by name.

    Raises CalibrationError for NaN or infinite values (naming sample and tensor) and for no data.
    """
    collector = Collector(method, with_statistics)
    interpreter = Interpreter(fast_float=True, observe=collector)
    for sample, inputs in enumerate(data):
        collector.sample = sample
        interpreter.run(module, inputs)
        if progress is not None:
            progress("calibrate", sample + 1)
    if not collector.observers and any(isinstance(o, ObserveOp) for o in module.walk()):
        raise CalibrationError("the calibration data has no samples")
    for op in module.walk():
        if isinstance(op, ObserveOp):
            set_range(op, *collector.observers[op.point.data].range(op.point.data))
    return collector.statistics


def annotate_sensitivity(module: ModuleOp, statistics: Mapping[str, LayerStatistics]) -> None:
    """Set ``SENSITIVITY``: the share of each layer's output power that int4 weights would lose."""
    for op in module.walk():
        if not isinstance(op, LAYERS) or op.layer not in statistics:
            continue
        owner = op.weight.owner
        if not isinstance(owner, nn.ConstantOp):
            continue
        weight = np.asarray(owner.array, np.float32)
        rows, gram = weight.reshape(len(weight), -1), statistics[op.layer].gram.gram
        guess = quantize_weights(weight, 0, 15, symmetric=False, method="mse")
        q = guess.q.reshape(rows.shape)
        lost = reconstruction_error(rows, q, guess.scale, guess.zero_point, gram).sum()
        nothing = np.broadcast_to(guess.zero_point[:, None], rows.shape).astype(np.int32)
        power = reconstruction_error(rows, nothing, guess.scale, guess.zero_point, gram).sum()
        share = float(lost / power) if power > 0 else 0.0
        op.attributes[SENSITIVITY] = FloatAttr(share, f64)
