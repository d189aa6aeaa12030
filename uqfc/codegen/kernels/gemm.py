"""Matrix product ``u8 [rows, k] x packed weights [n, k]`` with an epilogue.

For each panel of output channels: expand it to int8 if it is INT4 and there is more than one row,
then for each tile of rows: sums in registers (``tile``), sums to the stack, epilogue. The last
tile of rows overlaps the one before it in what it reads and computes, not in what it writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from uqfc.codegen.builder import Builder, find_function
from uqfc.codegen.isa import Isa
from uqfc.codegen.kernels.epilogue import Epilogue, Scalars, emit_tile_epilogue
from uqfc.codegen.kernels.operands import GemmDims, Operands
from uqfc.codegen.kernels.tile import Tile, emit_expand
from uqfc.codegen.vector import LANES, Pointer, Value
from uqfc.packing import I32, U8, PanelLayout, Scalar, Storage, round_up

STORAGE_NAMES: dict[Storage, str] = {"s8": "i8c", "u4": "i4c", "s16": "i16c"}


@dataclass(frozen=True)
class GemmSpec:
    """A matrix product of at least ``tile_rows`` rows."""

    isa: Isa
    storage: Storage
    tile_rows: int
    epilogue: Epilogue

    @property
    def name(self) -> str:
        tile = f"{self.tile_rows}x{self.isa.panel}c4"
        weights = STORAGE_NAMES[self.storage]
        return f"u8_{weights}_gemm_{tile}_{self.epilogue.name}__{self.isa.name}"

    @property
    def expands(self) -> bool:
        """INT4 panels are expanded to int8 in scratch memory, once for all rows."""
        return self.storage == "u4" and self.tile_rows > 1

    def layout(self, dims: GemmDims) -> PanelLayout:
        """Layout of the weights [n, k]."""
        return PanelLayout(dims.n, dims.k, self.storage, self.isa.panel)

    def pack(self, dims: GemmDims, weights: I32, zero_points: I32 | None = None) -> U8:
        """Bytes of the weights [n, k]; ValueError if the storage does not hold them."""
        return self.layout(dims).pack(weights, zero_points)

    def pad(self, dims: GemmDims, values: NDArray[Scalar]) -> NDArray[Scalar]:
        """Addends or multipliers [n] as the kernel reads them."""
        return self.layout(dims).pad(values)

    def scratch_bytes(self, dims: GemmDims) -> int:
        """Bytes of scratch memory: one expanded panel."""
        if not self.expands:
            return 0
        return round_up(dims.k, 8) * min(self.isa.panel, round_up(dims.n, LANES))

    def parameters(self) -> dict[str, str]:
        """Names and kinds of the function's parameters; ``ldc`` is in bytes."""
        parameters = {"a": "ptr", "lda": "i64", "weights": "ptr", "addend": "ptr"}
        parameters |= {"multiplier": "ptr", "out": "ptr", "ldc": "i64"}
        parameters |= {"rows": "i64", "k": "i64", "n": "i64", "scratch": "ptr"}
        parameters |= {"residual": "ptr", "ldr": "i64"} if self.epilogue.residual else {}
        return parameters | self.epilogue.scalars()

    def emit(self, module: Any, isa: Isa) -> Any:
        """The function, emitted once."""
        if function := find_function(module, self.name):
            return function
        tiles = [self._tile(v).emit(module, isa) for v in range(isa.tile_vectors, 0, -1)]
        epilogue = emit_tile_epilogue(module, isa, self.epilogue, isa.tile_vectors)
        expand = emit_expand(module, isa) if self.expands else None
        b = Builder.function(module, isa, self.name, internal=True, **self.parameters())
        _Driver(self, b, tiles, epilogue, expand).run()
        return b.ret()

    def _tile(self, vectors: int) -> Tile:
        source = "s4" if self.expands else self.storage
        return Tile(self.tile_rows, vectors, source)

    def arguments(self, operands: Operands, dims: GemmDims) -> list[Pointer | int]:
        """The arguments before the scalars. ValueError if a pointer is missing."""
        size = self.epilogue.element_bytes
        nothing = operands.x if not self.expands else operands.scratch
        if nothing is None:
            raise ValueError(f"{self.name} needs scratch memory")
        arguments: list[Pointer | int] = [operands.x, dims.lda, operands.weights]
        arguments += [operands.addend, operands.multiplier, operands.out, dims.ldc * size]
        arguments += [dims.rows, dims.k, dims.n, nothing]
        if self.epilogue.residual:
            if operands.residual is None:
                raise ValueError(f"{self.name} needs a residual")
            arguments += [operands.residual, dims.ldr]
        return arguments

    def call(self, b: Builder, operands: Operands, dims: GemmDims, scalars: Scalars) -> None:
        """Emits a call; see ``kernels``."""
        if dims.rows < self.tile_rows:
            raise ValueError(f"{self.name} needs {self.tile_rows} rows, got {dims.rows}")
        function = self.emit(b.module, b.isa)
        values = self.epilogue.scalar_values(scalars)
        b.call(function, *self.arguments(operands, dims), *values)


class _Driver:
    """The loops of a ``GemmSpec`` over panels and rows."""

    def __init__(
        self, spec: GemmSpec, b: Builder, tiles: Sequence[Any], epilogue: Any, expand: Any | None
    ) -> None:
        self.spec = spec
        self.b = b
        self.tiles = tiles
        self.epilogue = epilogue
        self.expand = expand
        self.sums = b.stack(spec.tile_rows * spec.isa.panel * 4)
        group = 8 if spec.storage == "u4" else 4
        self.steps = (b.value("k") + (group - 1)).shift_right_logical(group.bit_length() - 1)
        self.zero_points: Pointer | None = None
        if spec.storage == "u4":
            padded = (b.value("n") + (LANES - 1)) & ~(LANES - 1)
            self.zero_points = b.pointer("weights") + self.steps * padded * 4

    def run(self) -> None:
        """``tiles[0]`` does full panels; a last panel of 16 channels has its own tile."""
        b, n, panel = self.b, self.b.value("n"), self.spec.isa.panel
        weights = [b.pointer("weights")]
        with b.loop(0, n, panel, carry=weights) as first:
            count = b.select((n - first).lt(panel), n - first, b.i64(panel))
            if len(self.tiles) == 1:
                weights[0] = self._panel(weights[0], first, count, panel, self.tiles[0])
            else:
                self._full_or_half(weights, first, count)

    def _full_or_half(self, weights: list[Pointer], first: Value, count: Value) -> None:
        b, panel = self.b, self.spec.isa.panel
        start = weights[0]
        half = panel // 2
        with b.if_else(count.gt(half)) as (full, rest):
            with full:
                weights[0] = self._panel(start, first, count, panel, self.tiles[0])
                after, block = weights[0], b.ir.block
            with rest:
                self._panel(start, first, count, half, self.tiles[1])
                other = b.ir.block
        phi = b.ir.phi(after.ir.type)
        phi.add_incoming(after.ir, block)
        phi.add_incoming(start.ir, other)
        weights[0] = Pointer(b, phi)

    def _panel(
        self, weights: Pointer, first: Value, count: Value, channels: int, tile: Any
    ) -> Pointer:
        """All rows of one panel; returns the address of the next panel."""
        b, spec = self.b, self.spec
        source, steps = weights, self.steps
        if self.expand is not None:
            source = b.pointer("scratch")
            zero_points = self._of_panel(first)
            b.call(self.expand, weights, *zero_points, channels, steps, source)
            steps = steps * 2
        self._rows(source, steps, first, count, tile)
        match spec.storage:
            case "s8" | "u4":
                return weights + self.steps * (channels * 4)
            case "s16":
                return weights + self.steps * (channels * 8)

    def _of_panel(self, first: Value) -> list[Pointer]:
        """The zero points of a panel as arguments: none if the storage has none."""
        return [] if self.zero_points is None else [self.zero_points + first]

    def _rows(self, source: Pointer, steps: Value, first: Value, count: Value, tile: Any) -> None:
        b, spec = self.b, self.spec
        rows, lda, ldc = b.value("rows"), b.value("lda"), b.value("ldc")
        addend = b.pointer("addend") + first * 4
        multiplier = b.pointer("multiplier") + first * 4
        out = b.pointer("out") + first * spec.epilogue.element_bytes
        last = rows - spec.tile_rows
        with b.loop(0, rows, spec.tile_rows) as row:
            start = b.select(row.lt(last), row, last)
            skip = row - start
            a = b.pointer("a") + start * lda
            zero_points = [] if spec.expands else self._of_panel(first)
            b.call(tile, a, lda, source, steps, addend, *zero_points, self.sums)
            arguments: list[Value | Pointer] = [
                self.sums + skip * (spec.isa.panel * 4),
                b.i64(spec.tile_rows) - skip,
                count,
                multiplier,
                out + row * ldc,
                ldc,
            ]
            if spec.epilogue.residual:
                ldr = b.value("ldr")
                arguments += [b.pointer("residual") + first + row * ldr, ldr]
            scalars = [b.value(name) for name in spec.epilogue.scalars()]
            b.call(self.epilogue, *arguments, *scalars)


def best_tile_rows(isa: Isa, rows: int) -> int:
    """Rows of a tile for a product of ``rows`` rows: least computed rows, then widest tiles.

    One of a few sizes, so that the kernels of a network are few. A tile's cost is taken as its
    rows and 2 more for the loads of weights.
    """
    candidates = [r for r in (1, 2, 4, 6, 8, 10, 12) if r <= min(rows, isa.tile_rows)]
    return min(candidates, key=lambda r: (-(-rows // r) * (r + 2), -r))


def gemm_spec(isa: Isa, rows: int, storage: Storage, epilogue: Epilogue) -> GemmSpec:
    """The kernel for a product of ``rows`` >= 1 rows."""
    return GemmSpec(isa, storage, best_tile_rows(isa, rows), epilogue)
