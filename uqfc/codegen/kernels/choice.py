"""Which kernels could do a matrix product or a convolution, and which is expected to be fastest.

The costs are cycles of one core by count of instructions, for comparison with each other: dot
products of 16 channels by 4 K, of which two start per cycle and three in four slots are used; on
matrix tiles 16 cycles for each product of two tiles, and for each tile of sums its start, its way
through memory, and its share of a call. Epilogues cost the same everywhere and are left out.
"""

from __future__ import annotations

from typing import TypeAlias

from uqfc.codegen.isa import Isa, amx
from uqfc.codegen.kernels.amx_conv import AmxConvSpec
from uqfc.codegen.kernels.amx_gemm import AmxGemmSpec
from uqfc.codegen.kernels.amx_strip import AmxStrip
from uqfc.codegen.kernels.conv import ConvSpec, conv_spec
from uqfc.codegen.kernels.epilogue import Epilogue
from uqfc.codegen.kernels.gemm import GemmSpec, gemm_spec
from uqfc.codegen.kernels.operands import ConvDims, GemmDims
from uqfc.codegen.vector import LANES
from uqfc.packing import Storage

VECTOR_DOTS_PER_CYCLE = 1.5
TILE_DOT_CYCLES = 16
TILE_SUMS_CYCLES = 64

AnyGemm: TypeAlias = GemmSpec | AmxGemmSpec
AnyConv: TypeAlias = ConvSpec | AmxConvSpec


def gemm_alternatives(
    isa: Isa, dims: GemmDims, storage: Storage, epilogue: Epilogue
) -> list[AnyGemm]:
    """All kernels for a matrix product, the one that is expected to be fastest first."""
    specs: list[AnyGemm] = [gemm_spec(isa, dims.rows, storage, epilogue)]
    if isa.tiles and storage != "s16" and dims.rows >= amx.TILE_ROWS:
        specs.append(AmxGemmSpec(isa, storage, epilogue))
    return sorted(specs, key=lambda spec: gemm_cycles(spec, dims))


def conv_alternatives(
    isa: Isa, dims: ConvDims, storage: Storage, epilogue: Epilogue
) -> list[AnyConv]:
    """All kernels for a convolution that is not a product, best first."""
    specs: list[AnyConv] = [conv_spec(isa, dims, storage, epilogue)]
    if isa.tiles and storage != "s16" and dims.groups == 1:
        specs.append(AmxConvSpec(isa, storage, AmxStrip.of(dims).padded, epilogue))
    return sorted(specs, key=lambda spec: conv_cycles(spec, dims))


def gemm_cycles(spec: AnyGemm, dims: GemmDims) -> float:
    """Expected cycles of one call."""
    if isinstance(spec, AmxGemmSpec):
        return _tile_cycles(-(-dims.rows // amx.TILE_ROWS), dims.n, -(-dims.k // amx.TILE_K))
    return _vector_cycles(dims.rows, dims.n, dims.k)


def conv_cycles(spec: AnyConv, dims: ConvDims) -> float:
    """Expected cycles of one call."""
    if not isinstance(spec, AmxConvSpec):
        n = dims.out_channels // dims.groups
        return dims.groups * _vector_cycles(dims.pixels, n, dims.taps)
    strip = AmxStrip.of(dims)
    times = dims.batch * dims.out_height / strip.lines
    lines = times if strip.joined else dims.batch * dims.out_height
    tiles = lines * -(-strip.line_pixels(dims) // amx.TILE_ROWS)
    steps = dims.segments * -(-(dims.taps // dims.segments) // amx.TILE_K)
    return _tile_cycles(tiles, dims.out_channels, steps)


def _vector_cycles(rows: int, n: int, k: int) -> float:
    return rows * -(-n // LANES) * -(-k // 4) / VECTOR_DOTS_PER_CYCLE


def _tile_cycles(row_tiles: float, n: int, steps: int) -> float:
    return row_tiles * -(-n // LANES) * (TILE_DOT_CYCLES * steps + TILE_SUMS_CYCLES)
