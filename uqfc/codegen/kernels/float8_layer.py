"""Convolution and linear layers of 8-bit floats.

The codes of some output pixels' inputs are gathered (im2col; those of a pointwise convolution of
stride 1 are rows already) and decoded to float32 once; the product decodes the weights in registers
while it multiplies. A linear layer is a pointwise convolution. x may be read up to 64 bytes past
its end. Depthwise convolutions of few taps have their own kernel (``float8_depthwise``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from uqfc.codegen.builder import Builder, find_function
from uqfc.codegen.isa import Isa
from uqfc.codegen.kernels.float8 import expand
from uqfc.codegen.kernels.float_product import FloatEpilogue, FloatProduct
from uqfc.codegen.kernels.gather import PARAMETERS as GATHER_PARAMETERS
from uqfc.codegen.kernels.gather import emit_gather, gather_arguments
from uqfc.codegen.kernels.operands import ConvDims
from uqfc.codegen.kernels.tensor import Argument, FunctionKernel, smaller
from uqfc.codegen.vector import Pointer, Value
from uqfc.float8 import Float8
from uqfc.packing import round_up

STRIP_BYTES = 128 * 1024
MOST_ROWS = 256
SLACK = 64
"""Bytes that are written after the last row of codes."""


def layer_inputs(epilogue: FloatEpilogue, inputs: Sequence[Pointer]) -> list[Pointer]:
    """Bias and residual among ``[x, w, multiplier, bias?, residual?]``; x stands for neither."""
    bias = inputs[3] if epilogue.bias else inputs[0]
    residual = inputs[3 + epilogue.bias] if epilogue.residual else inputs[0]
    return [bias, residual]


@dataclass(frozen=True)
class Float8LayerKernel(FunctionKernel):
    """``qnn.float8_conv2d``. Inputs: x, w [cout, kh, kw, cin / groups], multiplier [cout], then
    bias and residual if there are. ``scale``: of a result of 8-bit floats.
    """

    over_read = 64

    isa: Isa
    dims: ConvDims
    x: Float8
    w: Float8
    epilogue: FloatEpilogue = field(default_factory=FloatEpilogue)
    scale: float = 1.0

    @cached_property
    def _product(self) -> FloatProduct:
        return FloatProduct.of(self.isa, self._strip_rows, self.epilogue, self.w)

    @property
    def _row_codes(self) -> int:
        """Distance of rows: codes of the strip, or numbers."""
        return self.dims.taps if self.dims.is_product else round_up(self.dims.taps, 64)

    @property
    def _strip_rows(self) -> int:
        """Output pixels that are decoded at a time."""
        most = max(16, min(MOST_ROWS, STRIP_BYTES // (4 * self._row_codes)))
        return min(self.dims.pixels, most)

    @property
    def _codes_bytes(self) -> int:
        """The strip of gathered rows."""
        strip = self._strip_rows * self._row_codes + SLACK
        return 0 if self.dims.is_product else round_up(strip, 64)

    @property
    def scratch_bytes(self) -> int:
        return self._codes_bytes + self._strip_rows * self._row_codes * 4

    @property
    def name(self) -> str:
        op = "gemm" if self.dims.is_product else "conv"
        return f"{self.x.short}_{self._product.name.replace('_gemm_', f'_{op}_', 1)}"

    def emit(self, module: Any) -> Any:
        """``f(x, codes, numbers, row_codes, pixels, strip_rows, groups, *gather, *product)``."""
        if function := find_function(module, self.name):
            return function
        product = self._product.emit(module)
        parameters = {"x": "ptr", "codes": "ptr", "numbers": "ptr"}
        parameters |= dict.fromkeys(("row_codes", "pixels", "strip_rows", "groups"), "i64")
        gather = None
        if not self.dims.is_product:
            gather = emit_gather(module, self.isa)
            parameters |= GATHER_PARAMETERS
        own = ("a", "lda", "rows")
        parameters |= {k: v for k, v in self._product.parameters.items() if k not in own}
        b = Builder.function(module, self.isa, self.name, internal=True, **parameters)
        self._body(b, product, gather)
        return b.ret()

    def _body(self, b: Builder, product: Any, gather: Any | None) -> None:
        get = b.value
        pixels, most, row = get("pixels"), get("strip_rows"), get("row_codes")
        n, k, numbers = get("n"), get("k"), b.pointer("numbers")
        with b.loop(0, get("groups")) as group, b.loop(0, pixels, most) as first:
            rows = smaller(pixels - first, most)
            codes = b.pointer("x") + first * row
            if gather is not None:
                geometry = [get(name) for name in GATHER_PARAMETERS]
                x, codes = b.pointer("x") + group * get("length"), b.pointer("codes")
                b.call(gather, x, codes, row, first, rows, *geometry)
            expand(b, codes, numbers, rows * row, self.x)
            channel = group * n
            element = self.epilogue.element_bytes
            changed: dict[str, Value | Pointer] = {
                "a": numbers,
                "lda": row * 4,
                "w": b.pointer("w") + channel * k,
                "bias": b.pointer("bias") + channel * 4,
                "multiplier": b.pointer("multiplier") + channel * 4,
                "residual": b.pointer("residual") + (first * get("ldr") + channel * 4),
                "out": b.pointer("out") + (first * get("ldc") + channel * element),
                "rows": rows,
            }
            b.call_with(product, changed)

    def arguments(
        self, inputs: Sequence[Pointer], out: Pointer, scratch: Pointer | None
    ) -> list[Argument]:
        assert scratch is not None
        d = self.dims
        sizes = (self._row_codes, d.pixels, self._strip_rows, d.groups)
        gather = [] if d.is_product else gather_arguments(d, pad_value=0)
        bias, residual = layer_inputs(self.epilogue, inputs)
        given: dict[str, Argument] = {
            "w": inputs[1],
            "bias": bias,
            "residual": residual,
            "ldr": d.out_channels * 4,
            "out": out,
            "ldc": d.out_channels * self.epilogue.element_bytes,
            "n": d.out_channels // d.groups,
            "k": d.taps,
            "multiplier": inputs[2],
            "scale": self.scale,
        }
        tail = [given[name] for name in self._product.parameters if name in given]
        return [inputs[0], scratch, scratch + self._codes_bytes, *sizes, *gather, *tail]
