"""Matrix product ``u8 [rows, k] x packed weights [n, k]`` on AMX, of at least 16 rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from uqfc.codegen.builder import Builder, find_function
from uqfc.codegen.isa import Isa, amx
from uqfc.codegen.kernels.amx_product import AmxSpec
from uqfc.codegen.kernels.amx_tile import BLOCK_ROWS
from uqfc.codegen.kernels.epilogue import Scalars
from uqfc.codegen.kernels.operands import GemmDims, Operands
from uqfc.codegen.kernels.tensor import smaller
from uqfc.codegen.parts import Part
from uqfc.codegen.vector import Pointer, Value
from uqfc.packing import PanelLayout, round_up

STRIP_BYTES = 1024 * 1024
"""Aim for the size of the rows that all panels are applied to: half of a second level cache."""
MOST_ROWS = 256
"""Of a strip whose sums are kept between parts of K."""


@dataclass(frozen=True)
class AmxGemmSpec(AmxSpec[GemmDims]):
    """A matrix product in tiles; see ``GemmSpec``. ``storage`` is s8, u4 or u2."""

    @property
    def operation(self) -> str:
        return "gemm"

    def layout(self, dims: GemmDims) -> PanelLayout:
        """Layout of the weights [n, k]."""
        return self.product.layout(dims.n, dims.k)

    def scratch_bytes(self, dims: GemmDims) -> int:
        """Bytes of scratch memory: one expanded panel, sums."""
        rows = min(dims.rows, self.strip_rows(dims))
        return self.product.scratch_bytes(self.layout(dims), rows)

    def strip_rows(self, dims: GemmDims) -> int:
        """Rows that all panels are applied to before the next ones: strips of similar size."""
        most = max(2 * BLOCK_ROWS, min(MOST_ROWS, STRIP_BYTES // dims.lda))
        strips = -(-dims.rows // most)
        return round_up(-(-dims.rows // strips), BLOCK_ROWS)

    def parameters(self) -> dict[str, str]:
        """Names and kinds of the function's parameters; ``ldc`` is in bytes.

        Rows ``begin … end - 1`` of ``a`` are computed, which has at least 16 in all.
        """
        parameters = {"a": "ptr", "lda": "i64", "begin": "i64", "end": "i64", "strip": "i64"}
        return parameters | self.product.parameters(inside=False)

    def emit(self, module: Any, isa: Isa) -> Any:
        """The function, emitted once."""
        if function := find_function(module, self.name):
            return function
        product = self.product.emit(module, isa)
        b = Builder.function(module, isa, self.name, internal=True, **self.parameters())
        end, strip = b.value("end"), b.value("strip")
        offsets = b.stack(8)
        offsets.store(b.i64(0))
        with b.loop(b.value("begin"), end, strip) as row:
            rows = smaller(end - row, strip)
            changed: dict[str, Value | Pointer] = {
                "a": b.pointer("a") + row * b.value("lda"),
                "pixels": rows,
                "lines": b.i64(1),
                "line": b.i64(0),
                "width": rows,
                "pitch": rows,
                "behind": row,
                "offsets": offsets,
                "segments": b.i64(1),
                "out": b.pointer("out") + row * b.value("ldc"),
            }
            if self.epilogue.residual:
                changed["residual"] = b.pointer("residual") + row * b.value("ldr")
            b.call_with(product, changed)
        return b.ret()

    def splits(self, dims: GemmDims) -> bool:
        """Whether ``call`` can compute a part."""
        return dims.rows > BLOCK_ROWS

    def call(
        self,
        b: Builder,
        operands: Operands,
        dims: GemmDims,
        scalars: Scalars,
        part: Part | None = None,
    ) -> None:
        """Emits a call; see ``kernels``. ValueError for few rows or if a pointer is missing."""
        if dims.rows < amx.TILE_ROWS:
            raise ValueError(f"{self.name} needs {amx.TILE_ROWS} rows, got {dims.rows}")
        function = self.emit(b.module, b.isa)
        rows = (0, dims.rows) if part is None else part.share(dims.rows, BLOCK_ROWS)
        arguments: list[Pointer | Value | int] = [operands.x, dims.lda, *rows]
        arguments.append(self.strip_rows(dims))
        arguments += self.product.arguments(operands, self.layout(dims), dims.ldc, dims.ldr)
        b.call(function, *arguments, *self.epilogue.scalar_values(scalars))
