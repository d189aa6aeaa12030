"""Matrix product of few rows: ``u8 [rows, k] x packed weights [n, k]`` with an epilogue.

The time of such a product is that of reading its weights. Each panel is read once, from one end of
the weights to the other, and decoded in registers. See ``gemv_panel``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from uqfc.codegen.builder import Builder, find_function
from uqfc.codegen.isa import Isa
from uqfc.codegen.kernels.epilogue import Epilogue, Scalars
from uqfc.codegen.kernels.gemm import STORAGE_NAMES, line_cost
from uqfc.codegen.kernels.gemv_panel import PanelEmitter, emit_activation_sums
from uqfc.codegen.kernels.operands import GemmDims, Operands
from uqfc.codegen.kernels.panel_constants import PanelConstants
from uqfc.codegen.parts import Part
from uqfc.codegen.vector import Pointer, Value
from uqfc.packing import (
    NARROW_BITS,
    PanelLayout,
    Storage,
    word_weights,
)

MOST_ROWS = {"vnni512": 32, "avx2": 6, "portable": 1}
"""For more rows ``gemm`` is better: its tiles are larger, and what it expands is decoded once."""
MOST_WIDE_BYTES = 8 * 1024 * 1024
"""Larger int8 weights are read faster by the hardware's own prefetching than by ours."""
MOST_TILE_ROWS = 8
"""Of a tile: more would not leave registers to decode weights in."""
LARGEST_K = 65536
"""Up to which sums of decoded weights, scaled by up to 64, fit int32; see ``gemv_panel``."""


@dataclass(frozen=True)
class GemvSpec(PanelConstants[GemmDims]):
    """A matrix product of at most ``MOST_ROWS`` rows, in tiles of ``tile_rows``."""

    isa: Isa
    storage: Storage
    tile_rows: int
    epilogue: Epilogue

    @property
    def name(self) -> str:
        tile = f"{self.tile_rows}x{self.isa.panel}c4"
        weights = STORAGE_NAMES[self.storage]
        return f"u8_{weights}_gemv_{tile}_{self.epilogue.name}__{self.isa.name}"

    def layout(self, dims: GemmDims) -> PanelLayout:
        """Layout of the weights [n, k]."""
        return PanelLayout(dims.n, dims.k, self.storage, self.isa.panel)

    def scratch_bytes(self, dims: GemmDims) -> int:
        """Bytes of scratch memory."""
        return 0

    def splits(self, dims: GemmDims) -> bool:
        """Whether ``call`` can compute a part: of the channels."""
        return dims.n > self.isa.panel

    def parameters(self) -> dict[str, str]:
        """Names and kinds of the function's parameters.

        ``a``: u8 [rows, steps words of weights], ``lda`` bytes apart, read up to the end of the
        last word. Channels ``first … stop - 1`` of ``n``, whole panels but for the last.
        """
        parameters = {"a": "ptr", "lda": "i64", "rows": "i64", "steps": "i64"}
        parameters |= {"n": "i64", "first": "i64", "stop": "i64"}
        parameters |= {"weights": "ptr", "addend": "ptr", "multiplier": "ptr"}
        parameters |= {"out": "ptr", "ldc": "i64"}
        parameters |= {"residual": "ptr", "ldr": "i64"} if self.epilogue.residual else {}
        return parameters | self.epilogue.scalars()

    def emit(self, module: Any, isa: Isa) -> Any:
        """The function, emitted once."""
        if function := find_function(module, self.name):
            return function
        b = Builder.function(module, isa, self.name, internal=True, **self.parameters())
        self._body(b)
        return b.ret()

    def _body(self, b: Builder) -> None:
        first, stop, panel = b.value("first"), b.value("stop"), self.isa.panel
        corrections = None
        if self.storage in NARROW_BITS:
            corrections = emit_activation_sums(b, self.storage, MOST_ROWS[b.isa.name])
        *smaller, full = [
            PanelEmitter(b, self.storage, self.tile_rows, self.epilogue, channels, corrections)
            for channels in b.isa.tile_channels
        ]
        with b.loop(first, stop - (panel - 1), panel) as channel:
            full.run(channel, b.i64(panel))
        channel = first + (stop - first) // panel * panel
        left, least = stop - channel, 0
        for emitter in (*smaller, full):
            with b.when(left.gt(least) & left.le(emitter.channels)):
                emitter.run(channel, left)
            least = emitter.channels

    def call(
        self,
        b: Builder,
        operands: Operands,
        dims: GemmDims,
        scalars: Scalars,
        part: Part | None = None,
    ) -> None:
        """Emits a call; see ``kernels``. ValueError if rows are too many or K is too long."""
        if dims.rows > MOST_ROWS[self.isa.name] or dims.k > LARGEST_K:
            raise ValueError(f"{self.name} is not a kernel of {dims}")
        function = self.emit(b.module, b.isa)
        layout = self.layout(dims)
        channels: Sequence[Value | int] = (0, dims.n)
        if part is not None:
            channels = part.share(dims.n, self.isa.panel)
        steps = layout.padded_k // word_weights(self.storage)
        arguments: list[Pointer | Value | int] = [operands.x, dims.lda, dims.rows, steps]
        arguments += [dims.n, *channels]
        arguments += [operands.weights, operands.addend, operands.multiplier]
        arguments += [operands.out, dims.ldc * self.epilogue.element_bytes]
        if self.epilogue.residual:
            if operands.residual is None:
                raise ValueError("a product that adds needs a residual")
            arguments += [operands.residual, dims.ldr]
        b.call(function, *arguments, *self.epilogue.scalar_values(scalars))


def gemv_spec(isa: Isa, dims: GemmDims, storage: Storage, epilogue: Epilogue) -> GemvSpec | None:
    """The kernel for a product; None if there is none, or ``gemm`` is faster.

    Weights of 8 bits need no decoding: this kernel is for one row, where it reads them ahead.
    """
    narrow = storage in NARROW_BITS
    most = MOST_ROWS[isa.name] if narrow else 1
    too_large = not narrow and dims.n * dims.k > MOST_WIDE_BYTES
    if storage == "s16" or dims.rows > most or dims.k > LARGEST_K or too_large:
        return None
    return GemvSpec(isa, storage, _tile_rows(isa, dims.rows), epilogue)


def _tile_rows(isa: Isa, rows: int) -> int:
    """All rows if a tile can have them, or what leaves the least of them."""
    most = min(isa.tile_rows, MOST_TILE_ROWS)
    if rows <= most:
        return rows
    return min(range(most, most // 2, -1), key=lambda height: line_cost(isa, height, rows, steps=0))
