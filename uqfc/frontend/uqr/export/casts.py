"""Constants and quantize points.

A quantized value and its storage integers are the same ONNX tensor, so ``quant.scast`` is nothing.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from xdsl.ir import SSAValue

from uqfc import float8
from uqfc.dialects import nn
from uqfc.dialects.nn import layer_name
from uqfc.dialects.quant import (
    STORAGE_ELEMENTS,
    STORAGE_RANGES,
    DcastOp,
    QcastOp,
    QuantParams,
    ScastOp,
    UniformType,
    uniform_of,
)
from uqfc.dialects.tensors import element_of, numpy_dtype, shape_of
from uqfc.frontend.uqr.export.graph import Graph, Known
from uqfc.frontend.uqr.export.registry import exporter
from uqfc.numerics import quantize


@exporter(nn.ConstantOp)
def constant(g: Graph, op: nn.ConstantOp) -> None:
    g.known[op.result] = Known(op.array, element_of(op.result))


@exporter(ScastOp)
def scast(g: Graph, op: ScastOp) -> None:
    known, element = g.known.get(op.x), element_of(op.result)
    if known is not None:
        params = element.data if isinstance(element, UniformType) else None
        g.known[op.result] = replace(known, params=params, layer=layer_name(op))
        return
    layout = g.layout_of(op.x)
    g.define(op.result, g.get(op.x, layout), layout)


@exporter(QcastOp)
def qcast(g: Graph, op: QcastOp) -> None:
    """Integers that were only turned into another layout are there already."""
    params, known = uniform_of(op.result), g.known.get(op.x)
    if known is not None:
        scale, zero = params.broadcast(shape_of(op.x))
        element = STORAGE_ELEMENTS[params.storage]
        array = np.asarray(known.array)
        q = (
            quantize(array, scale, zero, params.qmin, params.qmax)
            if params.float8 is None
            else float8.quantize(array, scale, params.float8)
        )
        g.known[op.result] = Known(q.astype(numpy_dtype(element)), element, params)
        return
    layout = g.layout_of(op.x)
    x = g.get(op.x, layout)
    source, given = g.dequantized.get(x, (None, None))
    if source is not None and given == params and isinstance(op.x.owner, nn.TransposeOp):
        g.define(op.result, source, layout)
        return
    stored = fitted(params) if all_are_casts(op.result) else params
    inputs, attributes = g.parameters(x, stored, shape_of(op.x), layout)
    name = f"{x}/QuantizeLinear"
    result = g.apply(op, "QuantizeLinear", inputs, name, **attributes)
    g.limits[result] = params.qmin, params.qmax
    g.stored[result] = stored
    g.define(op.result, result, layout)


@exporter(DcastOp)
def dcast(g: Graph, op: DcastOp) -> None:
    params, known = uniform_of(op.x), g.known.get(op.x)
    if known is not None:
        g.known[op.result] = replace(known, params=params, real=True, layer=layer_name(op))
        return
    layout = g.layout_of(op.x)
    x = g.get(op.x, layout)
    g.limits.setdefault(x, (params.qmin, params.qmax))
    stored = fitted(params) if g.stored.get(x) == fitted(params) else params
    inputs, attributes = g.parameters(x, stored, shape_of(op.x), layout)
    name = f"{x.removesuffix('/QuantizeLinear')}/DequantizeLinear"
    result = g.apply(op, "DequantizeLinear", inputs, name, **attributes)
    g.dequantized[result] = x, params
    g.define(op.result, result, layout)


def fitted(params: QuantParams) -> QuantParams:
    """In four bits if that is the range: so the file says it to everyone, not to uqfc alone."""
    for storage in ("u4", "i4"):
        if (params.qmin, params.qmax) == STORAGE_RANGES[storage]:
            return replace(params, storage=storage)
    return params


def all_are_casts(value: SSAValue) -> bool:
    """Whether nobody looks at the integers themselves."""
    return all(isinstance(use.operation, DcastOp) for use in value.uses)
