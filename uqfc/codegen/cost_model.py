"""What a matrix product or a convolution will take: cycles of one core, by count of instructions.

The estimates are for comparison of the kernels of one layer. ``benchmarks.cost_model`` measures how
good they are, ``compile(autotune=True)`` measures kernels instead. What is counted:

- vector tiles: for each group of four K the dot products of a tile, or the loads of its operands,
  or the latency of its sums, whichever is longest; its epilogue and its start; sums that do not
  fit the registers beside what the epilogue keeps there; half of the epilogue where it overlaps
  the next tile. What a line leaves is done in half as many rows and row by row.
- matrix tiles: 16 cycles for each product of two, and for each tile of sums its start, its way
  through memory, and its epilogue.
- few rows: reading the weights, or the dot products.
"""

from __future__ import annotations

from dataclasses import dataclass

from uqfc.codegen.isa import Isa, amx
from uqfc.codegen.kernels.amx_conv import AmxConvSpec
from uqfc.codegen.kernels.amx_gathered import AmxGatheredSpec
from uqfc.codegen.kernels.amx_gemm import AmxGemmSpec
from uqfc.codegen.kernels.amx_strip import AmxStrip
from uqfc.codegen.kernels.conv import ConvSpec
from uqfc.codegen.kernels.epilogue import Epilogue
from uqfc.codegen.kernels.gemm import GemmSpec
from uqfc.codegen.kernels.gemv import GemvSpec
from uqfc.codegen.kernels.operands import ConvDims, GemmDims
from uqfc.codegen.kernels.pixel_product import PixelProduct
from uqfc.codegen.kernels.pixel_window import TILE
from uqfc.codegen.kernels.product import Product
from uqfc.codegen.kernels.tile import tile_sizes
from uqfc.codegen.vector import LANES
from uqfc.packing import Storage

TILE_DOT_CYCLES = 16
TILE_SUMS_CYCLES = 64
OVERLAPPED = 0.5
"""Of the cycles of an epilogue that is computed among the sums of the next tile."""
READ_BYTES = 25
"""Of weights that a core reads in a cycle, from a third level cache."""
COPY_CYCLES = 6
"""Of a run of im2col, and 2 for each 64 bytes of it."""


@dataclass(frozen=True)
class VectorUnit:
    """What one core does with vectors of 16 lanes."""

    dots_per_cycle: float
    """Dot products of four K."""
    loads_per_cycle: float
    latency: int
    """Cycles from one dot product to the next one of the same sum."""
    registers: int
    """Vectors of 16 lanes that registers hold."""
    output_cycles: float
    """Of the epilogue, for a vector."""
    tile_cycles: float
    """Of the start and the end of a tile."""
    spill_cycles: float
    """Of a sum that has no register."""


UNITS: dict[str, VectorUnit] = {
    "vnni512": VectorUnit(1.9, 2, 5, 32, 2.5, 12, 1),
    "avx2": VectorUnit(0.33, 1, 6, 8, 6, 12, 3),
    "portable": VectorUnit(0.1, 0.5, 6, 4, 12, 12, 24),
}
INT16_UNIT = VectorUnit(0.85, 1.5, 2, 16, 6, 12, 0)
"""Of AVX2 where tiles are summed in int16."""
DOT_WORDS: dict[Storage, int] = {"s8": 1, "u4": 1, "u2": 1, "s16": 2}


def gemm_cycles(spec: GemmSpec | GemvSpec | AmxGemmSpec, dims: GemmDims) -> float:
    """Of one call."""
    if isinstance(spec, AmxGemmSpec):
        tiles = -(-dims.rows // amx.TILE_ROWS)
        return _matrix_tiles(spec.isa, tiles, dims.n, -(-dims.k // amx.TILE_K))
    if isinstance(spec, GemvSpec):
        dots = dims.rows * dims.n * dims.k / (4 * LANES)
        return max(spec.layout(dims).bytes / READ_BYTES, dots / UNITS[spec.isa.name].dots_per_cycle)
    line = _Line(spec.isa, spec.product, -(-dims.k // 4))
    return line.cycles(dims.rows, dims.n)


def conv_cycles(spec: ConvSpec | AmxConvSpec | AmxGatheredSpec, dims: ConvDims) -> float:
    """Of one call."""
    run = dims.taps // dims.segments
    if isinstance(spec, AmxGatheredSpec):
        copies = dims.pixels * dims.segments * (COPY_CYCLES + 2 * -(-run // amx.TILE_K))
        tiles, steps = -(-dims.pixels // amx.TILE_ROWS), -(-dims.taps // amx.TILE_K)
        return copies + _matrix_tiles(spec.isa, tiles, dims.out_channels, steps)
    if isinstance(spec, AmxConvSpec):
        strip = AmxStrip.of(dims)
        times = dims.batch * dims.out_height / strip.lines
        lines = times if strip.joined else dims.batch * dims.out_height
        tiles = lines * -(-strip.line_pixels(dims) // amx.TILE_ROWS)
        return _matrix_tiles(
            spec.isa, tiles, dims.out_channels, dims.segments * -(-run // amx.TILE_K)
        )
    product = spec.product
    if isinstance(product, PixelProduct):
        return _pixels(product, dims)
    steps = dims.segments * -(-run // 4)
    line = _Line(spec.isa, product, steps)
    lines = dims.batch * dims.out_height * dims.groups
    return lines * line.cycles(dims.out_width, dims.out_channels // dims.groups)


def _pixels(product: PixelProduct, dims: ConvDims) -> float:
    """Dot products, and epilogues that half overlap them, in tiles without a start."""
    unit = UNITS[product.isa.name]
    dots = product.window.words / unit.dots_per_cycle
    tiles = dims.batch * dims.out_height * -(-dims.out_width // TILE)
    vectors = tiles * TILE * -(-dims.out_channels // LANES)
    return vectors * (dots + unit.output_cycles * OVERLAPPED)


@dataclass(frozen=True)
class _Line:
    """Rows in tiles of vectors, each of ``steps`` groups of four K."""

    isa: Isa
    product: Product
    steps: int

    def cycles(self, rows: int, n: int) -> float:
        full, rest = divmod(n, self.isa.panel)
        total = full * self._panel(rows, self.isa.panel)
        return total + (self._panel(rows, -(-rest // LANES) * LANES) if rest else 0.0)

    def _panel(self, rows: int, channels: int) -> float:
        total, tile = 0.0, self.product.tile(channels)
        for size in tile_sizes(tile.rows):
            overlaps = tile.overlap > 0 and size == tile.rows
            total += rows // size * self._tile(size, tile.vectors, overlaps)
            rows %= size
        return total

    def _tile(self, rows: int, vectors: int, overlaps: bool) -> float:
        unit = INT16_UNIT if self.product.sums_in_int16 else UNITS[self.isa.name]
        outputs = rows * vectors
        dots = outputs * DOT_WORDS[self.product.storage]
        chains = max(1, min(4, self.isa.accumulators // outputs))
        step = max(
            dots / unit.dots_per_cycle,
            (rows + vectors) / unit.loads_per_cycle,
            unit.latency / chains,
        )
        if overlaps:
            return self.steps * step + outputs * unit.output_cycles * OVERLAPPED
        kept = vectors + 1 + _constants(self.product.epilogue)
        spilled = max(0, outputs + kept - unit.registers)
        end = unit.tile_cycles + outputs * unit.output_cycles + spilled * unit.spill_cycles
        return self.steps * step + end


def _constants(epilogue: Epilogue) -> int:
    """Vectors that an epilogue keeps in registers while sums are computed."""
    return 4 if epilogue.activation is not None and not epilogue.activation.bounds else 0


def _matrix_tiles(isa: Isa, row_tiles: float, n: int, steps: int) -> float:
    end = TILE_SUMS_CYCLES + amx.TILE_ROWS * UNITS[isa.name].output_cycles
    return row_tiles * -(-n // LANES) * (TILE_DOT_CYCLES * steps + end)
