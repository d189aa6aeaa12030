"""Float32 convolution: im2col of some output pixels at a time, then the matrix product.

A pointwise convolution of stride 1 is the product alone. x may be read up to 64 bytes past its
end. Depthwise convolutions of few taps have their own kernel (``float_depthwise``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from uqfc.codegen.builder import Builder, find_function
from uqfc.codegen.isa import Isa
from uqfc.codegen.kernels.float_linear import next_inputs
from uqfc.codegen.kernels.float_product import PARAMETERS, FloatEpilogue, FloatProduct
from uqfc.codegen.kernels.gather import PARAMETERS as GATHER_PARAMETERS
from uqfc.codegen.kernels.gather import emit_gather, gather_arguments
from uqfc.codegen.kernels.operands import ConvDims
from uqfc.codegen.kernels.tensor import Argument, FunctionKernel, smaller
from uqfc.codegen.vector import Pointer, Value
from uqfc.packing import round_up

STRIP_BYTES = 128 * 1024
MOST_ROWS = 256
SLACK = 64
"""Bytes that are read or written after the last row of the strip."""


@dataclass(frozen=True)
class FloatConvKernel(FunctionKernel):
    """``nn.conv2d``. Inputs: x, w [cout, kh, kw, cin / groups], bias and residual if there are.

    ``out`` may be the residual.
    """

    over_read = 64

    isa: Isa
    dims: ConvDims
    epilogue: FloatEpilogue = field(default_factory=FloatEpilogue)

    @cached_property
    def _product(self) -> FloatProduct:
        return FloatProduct.of(self.isa, self._strip_rows, self.epilogue)

    @property
    def _pointwise(self) -> bool:
        d = self.dims
        same = (d.height, d.width) == (d.out_height, d.out_width)
        simple = d.kernel == (1, 1) and d.stride == (1, 1) and d.pad_begin == (0, 0)
        return same and simple and d.groups == 1

    @property
    def _row_bytes(self) -> int:
        return round_up(self.dims.taps * 4, 64)

    @property
    def _strip_rows(self) -> int:
        """Output pixels that are gathered at a time."""
        most = max(16, min(MOST_ROWS, STRIP_BYTES // self._row_bytes))
        return min(self.dims.pixels, most)

    @property
    def scratch_bytes(self) -> int:
        """The strip of gathered rows."""
        return 0 if self._pointwise else self._strip_rows * self._row_bytes + SLACK

    @property
    def name(self) -> str:
        if self._pointwise:
            return self._product.name
        return self._product.name.replace("_gemm_", "_conv_", 1)

    def emit(self, module: Any) -> Any:
        """``f(x, strip, row_bytes, pixels, strip_rows, groups, *gather, *product but a, lda)``."""
        if self._pointwise:
            return self._product.emit(module)
        if function := find_function(module, self.name):
            return function
        product = self._product.emit(module)
        gather = emit_gather(module, self.isa)
        parameters = {"x": "ptr", "strip": "ptr"}
        parameters |= dict.fromkeys(("row_bytes", "pixels", "strip_rows", "groups"), "i64")
        parameters |= GATHER_PARAMETERS
        parameters |= {k: v for k, v in PARAMETERS.items() if k not in ("a", "lda", "rows")}
        b = Builder.function(module, self.isa, self.name, internal=True, **parameters)
        self._body(b, product, gather)
        return b.ret()

    def _body(self, b: Builder, product: Any, gather: Any) -> None:
        get = b.value
        geometry = [get(name) for name in GATHER_PARAMETERS]
        pixels, most, row_bytes = get("pixels"), get("strip_rows"), get("row_bytes")
        n, k, strip = get("n"), get("k"), b.pointer("strip")
        with b.loop(0, get("groups")) as group, b.loop(0, pixels, most) as first:
            rows = smaller(pixels - first, most)
            x = b.pointer("x") + group * get("length")
            b.call(gather, x, strip, row_bytes, first, rows, *geometry)
            channel = group * n * 4
            weights = b.pointer("w") + group * n * k * 4
            bias, residual, out = b.pointer("bias"), b.pointer("residual"), b.pointer("out")
            ldr, ldc = get("ldr"), get("ldc")
            arguments: list[Value | Pointer] = [strip, row_bytes, weights, bias + channel]
            arguments += [residual + (first * ldr + channel), ldr]
            arguments += [out + (first * ldc + channel), ldc, rows, n, k]
            b.call(product, *arguments)

    def arguments(
        self, inputs: Sequence[Pointer], out: Pointer, scratch: Pointer | None
    ) -> list[Argument]:
        d = self.dims
        bias, residual = next_inputs(self.epilogue, inputs)
        n = d.out_channels // d.groups
        tail: list[Argument] = [inputs[1], bias, residual, d.out_channels * 4, out, d.ldc * 4]
        if self._pointwise:
            return [inputs[0], d.taps * 4, *tail, d.pixels, n, d.taps]
        assert scratch is not None
        sizes = (self._row_bytes, d.pixels, self._strip_rows, d.groups)
        in_bytes = replace(d, in_channels=d.in_channels * 4)
        gather = gather_arguments(in_bytes, pad_value=0)
        return [inputs[0], scratch, *sizes, *gather, *tail, n, d.taps]
