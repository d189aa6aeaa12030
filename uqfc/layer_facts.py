"""What an assignment of weight types depends on: a layer's size, work, geometry and choices."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from uqfc.dialects import nn
from uqfc.dialects.tensors import int_tuple, shape_of
from uqfc.passes.select_bit_width import FLOAT8
from uqfc.passes.support.quantizable import table_op
from uqfc.targets import Target


@dataclass(frozen=True)
class LayerFacts:
    """A layer whose weights can be quantized."""

    name: str
    op: str
    """``conv2d`` (grouped ones too), ``depthwise`` or ``linear``."""
    weight_shape: tuple[int, ...]
    """Output channels first: [O, H, W, I] or [O, I]."""
    macs: int
    """Multiply-accumulates of one run."""
    choices: tuple[str, ...]
    """Types of weights that the target has for it, the widest first; ``float32``, which every
    layer can have, is not among them, nor are 8-bit floats where there is int8: a CPU computes them
    in float32, so they are slower, and not smaller."""
    geometry: str = ""
    """All that the time of its kernel depends on beside the weights' type."""
    activation_bytes: int = 0
    """Of input, residual and result, at one byte an element."""

    @property
    def elements(self) -> int:
        """How many weights."""
        return prod(self.weight_shape)


def facts_of(layer: nn.Layer, table: Target, granularity: str) -> LayerFacts:
    """What an assignment depends on."""
    shape = shape_of(layer.weight)
    macs = prod((*shape_of(layer.result), *shape[1:]))
    op = table_op(layer)
    supported = table.weights_for(op, granularity)
    left_out = ("float32", *(FLOAT8 if "int8" in supported else ()))
    choices = tuple(dtype for dtype in supported if dtype not in left_out)
    activations = [layer.x, layer.result] + ([] if layer.residual is None else [layer.residual])
    count = sum(prod(shape_of(value)) for value in activations)
    return LayerFacts(layer.layer, op, shape, macs, choices, geometry(layer), count)


def geometry(layer: nn.Layer) -> str:
    """Shapes, window and what is fused, e.g. ``1x8x8x3 * 8x3x3x3, padding 1x1x1x1, relu``."""
    facts = [" * ".join("x".join(map(str, shape_of(v))) for v in (layer.x, layer.weight))]
    if isinstance(layer, nn.Conv2dOp):
        window = {"strides": layer.strides, "padding": layer.padding, "dilations": layer.dilations}
        facts += [f"{name} {'x'.join(map(str, int_tuple(v)))}" for name, v in window.items()]
        facts.append(f"groups {layer.groups.value.data}")
    if layer.activation is not None:
        facts.append(layer.activation.data.name)
    if layer.residual is not None:
        facts.append("residual")
    return ", ".join(facts)
