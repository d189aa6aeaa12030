"""Meanings of ``qkernel``: a launch runs its body; the arena is one array of bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from uqfc.dialects import qkernel
from uqfc.dialects.tensors import Array, element_of, numpy_dtype, shape_of
from uqfc.interpreter.registry import contextual_meaning, meaning
from uqfc.packing import DepthwiseLayout, PanelLayout

if TYPE_CHECKING:
    from uqfc.interpreter.engine import Interpreter


@meaning(qkernel.UnpackOp)
def unpack(op: qkernel.UnpackOp, packed: Array) -> tuple[Array, Array]:
    how, shape = op.packing.data, shape_of(op.weight)
    if how.format == "depthwise":
        layout = DepthwiseLayout(shape[0], (shape[1], shape[2]), how.storage)
    else:
        k = int(np.prod(shape[1:]))
        n = shape[0] // how.groups
        unit = 64 if how.format == "blocks" else 4
        layout = PanelLayout(n, k, how.storage, how.panel, how.groups, how.segments, unit)
    weight, zero_point = layout.unpack(packed)
    return weight.reshape(shape).astype(numpy_dtype(element_of(op.weight))), zero_point


@meaning(qkernel.ArenaOp)
def arena(op: qkernel.ArenaOp) -> Array:
    return np.zeros(op.size, np.uint8)


@meaning(qkernel.ViewOp)
def view(op: qkernel.ViewOp, memory: Array) -> Array:
    kind = op.result.type
    dtype = numpy_dtype(kind.get_element_type())
    strides = [dtype.itemsize * (stride or 0) for stride in kind.get_strides() or ()]
    return np.ndarray(kind.get_shape(), dtype, memory.data, op.offset.value.data, strides)


@contextual_meaning(qkernel.LaunchOp)
def launch(interpreter: Interpreter, op: qkernel.LaunchOp, *operands: Array) -> tuple[Array, ...]:
    """Runs the body; with an ``into`` operand (the last one) the result is written there."""
    inputs = operands[: len(op.inputs)]
    (value,) = interpreter.run_block(op.body.block, inputs)
    if not op.into:
        return (value,)
    operands[-1][...] = value
    return ()
