"""Convolution on AMX through im2col: for images whose lines leave most of a tile empty."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from uqfc.codegen.builder import Builder, find_function
from uqfc.codegen.isa import Isa, amx
from uqfc.codegen.kernels.amx_product import AmxSpec
from uqfc.codegen.kernels.amx_strip import CHUNK, STRIP_BYTES
from uqfc.codegen.kernels.amx_tile import BLOCK_ROWS
from uqfc.codegen.kernels.epilogue import Scalars
from uqfc.codegen.kernels.gather import PARAMETERS, emit_gather, gather_arguments
from uqfc.codegen.kernels.operands import ConvDims, Operands
from uqfc.codegen.kernels.tensor import smaller
from uqfc.codegen.parts import Part
from uqfc.codegen.vector import Pointer, Value
from uqfc.packing import PanelLayout, round_up


@dataclass(frozen=True)
class AmxGatheredSpec(AmxSpec[ConvDims]):
    """A convolution without groups. ``storage`` is s8 or u4."""

    @property
    def operation(self) -> str:
        return "conv_gathered"

    def layout(self, dims: ConvDims) -> PanelLayout:
        """Layout of the weights as [out_channels, kh * kw * in_channels]."""
        return self.product.layout(dims.out_channels, dims.taps)

    def strip_rows(self, dims: ConvDims) -> int:
        """Pixels that are gathered at a time: strips of similar size."""
        most = max(2 * BLOCK_ROWS, STRIP_BYTES // _row_bytes(dims))
        strips = -(-dims.pixels // most)
        return round_up(-(-dims.pixels // strips), BLOCK_ROWS)

    def scratch_bytes(self, dims: ConvDims) -> int:
        """Bytes of scratch memory: gathered rows, what the product needs."""
        product = self.product.scratch_bytes(self.layout(dims), self.strip_rows(dims))
        return self._strip_bytes(dims) + product

    def _strip_bytes(self, dims: ConvDims) -> int:
        """A tile may begin with the last row."""
        return (self.strip_rows(dims) + amx.TILE_ROWS) * _row_bytes(dims)

    def splits(self, dims: ConvDims) -> bool:
        """Whether ``call`` can compute a part."""
        return dims.pixels > BLOCK_ROWS

    def call(
        self,
        b: Builder,
        operands: Operands,
        dims: ConvDims,
        scalars: Scalars,
        part: Part | None = None,
    ) -> None:
        """Emits a call; see ``kernels``. ValueError for groups or if a pointer is missing."""
        if dims.groups != 1:
            raise ValueError(f"{self.name} is not the kernel of {dims}")
        if operands.scratch is None:
            raise ValueError(f"{self.name} needs scratch memory")
        inner = replace(operands, scratch=operands.scratch + self._strip_bytes(dims))
        pixels = (0, dims.pixels) if part is None else part.share(dims.pixels, BLOCK_ROWS)
        arguments: list[Pointer | Value | int] = [operands.x, *pixels, self.strip_rows(dims)]
        arguments += [operands.scratch, _row_bytes(dims)]
        arguments += gather_arguments(dims, scalars.pad_value)
        distances = dims.ldc, dims.out_channels
        arguments += self.product.arguments(inner, self.layout(dims), *distances)
        function = self.emit(b.module, b.isa)
        b.call(function, *arguments, *self.epilogue.scalar_values(scalars))

    def emit(self, module: Any, isa: Isa) -> Any:
        """``f(x, begin, end, strip_rows, strip, lda, *gather.PARAMETERS, …)``, emitted once.

        Pixels ``begin … end - 1`` of the output are computed, of all images one after the other.
        """
        if function := find_function(module, self.name):
            return function
        product, gather = self.product.emit(module, isa), emit_gather(module, isa)
        parameters = {"x": "ptr", "begin": "i64", "end": "i64", "strip_rows": "i64"}
        parameters |= {"strip": "ptr", "lda": "i64", **PARAMETERS}
        parameters |= self.product.parameters(inside=False)
        b = Builder.function(module, isa, self.name, internal=True, **parameters)
        end, most, strip = b.value("end"), b.value("strip_rows"), b.pointer("strip")
        offsets = b.stack(8)
        offsets.store(b.i64(0))
        with b.loop(b.value("begin"), end, most) as pixel:
            rows = smaller(end - pixel, most)
            geometry = [b.value(name) for name in PARAMETERS]
            b.call(gather, b.pointer("x"), strip, b.value("lda"), pixel, rows, *geometry)
            changed: dict[str, Value | Pointer] = {
                "a": strip,
                "pixels": rows,
                "lines": b.i64(1),
                "line": b.i64(0),
                "width": rows,
                "pitch": rows,
                "behind": b.i64(0),
                "offsets": offsets,
                "segments": b.i64(1),
                "out": b.pointer("out") + pixel * b.value("ldc"),
            }
            if self.epilogue.residual:
                changed["residual"] = b.pointer("residual") + pixel * b.value("ldr")
            b.call_with(product, changed)
        return b.ret()


def _row_bytes(dims: ConvDims) -> int:
    return round_up(dims.taps, CHUNK)
