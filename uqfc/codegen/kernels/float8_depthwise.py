"""Depthwise convolution of 8-bit floats with few taps: ``float_depthwise`` on codes.

A call decodes the weights, taps first, to scratch memory; the image is decoded in registers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from uqfc.codegen.builder import Builder
from uqfc.codegen.isa import Isa
from uqfc.codegen.kernels.copying import CopyKernel
from uqfc.codegen.kernels.float8 import codes_of, expand, load_numbers, multiply_add
from uqfc.codegen.kernels.float8_layer import layer_inputs
from uqfc.codegen.kernels.float_depthwise import FloatDepthwiseKernel
from uqfc.codegen.kernels.float_product import FLOAT8_PARAMETERS, FloatEpilogue
from uqfc.codegen.kernels.lanes import load_part, store_part
from uqfc.codegen.kernels.operands import ConvDims
from uqfc.codegen.kernels.tensor import Argument
from uqfc.codegen.vector import Pointer, Value
from uqfc.float8 import E4M3, Float8
from uqfc.packing import round_up


@dataclass(frozen=True)
class Float8DepthwiseKernel(FloatDepthwiseKernel):
    """Inputs: x, w [c, kh, kw, 1], multiplier [c], then bias [c] and residual if there are.

    ``scale``: of a result of 8-bit floats. ValueError as for ``FloatDepthwiseKernel``.
    """

    isa: Isa
    dims: ConvDims
    epilogue: FloatEpilogue = field(default_factory=FloatEpilogue)
    x: Float8 = E4M3
    w: Float8 = E4M3
    scale: float = 1.0

    element_bytes = 1
    extra_parameters = FLOAT8_PARAMETERS

    @property
    def _formats(self) -> str:
        return f"{self.x.short}_{self.w.short}"

    @property
    def scratch_bytes(self) -> int:
        """Zeros and decoded weights, then the codes of the weights, taps first."""
        return super().scratch_bytes + round_up(self._weights, 64)

    @property
    def _weights(self) -> int:
        return self._taps * self.dims.in_channels

    def _accumulate(self, total: Value, tap: Pointer, i: Value, weights: Value) -> Value:
        return multiply_add(total.b, total, load_numbers(tap, i, self.x), weights)

    def _scaled(self, b: Builder, v: Value, i: Value, rest: Value | None) -> Value:
        return v * load_part(b.pointer("multiplier"), i, rest)

    def _store(self, b: Builder, out: Pointer, v: Value, i: Value, rest: Value | None) -> None:
        if self.epilogue.output is None:
            store_part(out, v, i, rest)
            return
        codes = codes_of(b, v, b.value("scale"), self.epilogue.output)
        if rest is None:
            out.store_u8(codes, i)
        else:
            out.store_u8_first(codes, rest, i)

    def arguments(
        self, inputs: Sequence[Pointer], out: Pointer, scratch: Pointer | None
    ) -> list[Argument]:
        bias, residual = layer_inputs(self.epilogue, inputs)
        first = self._arguments(inputs[0], bias, residual, out, scratch)
        return [*first, inputs[2], self.scale]

    def _prepare(self, b: Builder, weights: Pointer, scratch: Pointer) -> None:
        taps, channels = self._taps, self.dims.in_channels
        numbers = scratch + self._zeros_bytes
        codes = numbers + self._weights * 4
        copy = CopyKernel(self.isa, 1, (taps, channels), (1, taps), (channels, 1))
        copy.call(b, [weights], codes)
        expand(b, codes, numbers, b.i64(self._weights), self.w)
