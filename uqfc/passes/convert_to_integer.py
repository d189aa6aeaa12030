"""``convert-to-integer``: quantized operands, float op, quantized result → one integer op.

An op becomes integer where its activations come from ``quant.dcast`` (per tensor, 8 bits), its
weights from a constant's ``quant.dcast``, and its result goes into a ``quant.qcast``; a layer whose
result stays float keeps its integer sums and gives float32. Everything else runs in float32
between ``qnn.dequantize`` and ``qnn.quantize``.

Signed activations become unsigned here: 128 is added to value and zero point.

This pass *defines* the integer network (NUMERICS): from here to the device all bits are equal. Law
with respect to its input: the sums are the same in real arithmetic, so each result differs by at
most one step, and only where float rounding of the input graph, or of the multiplier, crosses a
tie.
"""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp
from xdsl.passes import ModulePass

from uqfc.passes.support.integer.converter import Converter


@dataclass(frozen=True)
class ConvertToIntegerPass(ModulePass):
    """See the module's documentation."""

    name = "convert-to-integer"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for function in op.ops:
            if isinstance(function, FuncOp):
                Converter(function).run()
