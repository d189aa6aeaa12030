"""Which kernels could do a matrix product or a convolution: all heights of tiles, and AMX."""

from __future__ import annotations

from typing import TypeAlias

from uqfc.codegen.isa import Isa, amx
from uqfc.codegen.kernels.amx_conv import AmxConvSpec
from uqfc.codegen.kernels.amx_gathered import AmxGatheredSpec
from uqfc.codegen.kernels.amx_gemm import AmxGemmSpec
from uqfc.codegen.kernels.amx_strip import AmxStrip
from uqfc.codegen.kernels.conv import ConvSpec, conv_spec, conv_tile_heights, in_pixels
from uqfc.codegen.kernels.epilogue import Epilogue
from uqfc.codegen.kernels.gemm import GemmSpec, gemm_spec, tile_heights
from uqfc.codegen.kernels.gemv import GemvSpec, gemv_spec
from uqfc.codegen.kernels.operands import ConvDims, GemmDims
from uqfc.codegen.kernels.quantized_rows import QuantizedRows
from uqfc.packing import Storage

AnyGemm: TypeAlias = GemmSpec | GemvSpec | AmxGemmSpec
AnyConv: TypeAlias = ConvSpec | AmxConvSpec | AmxGatheredSpec


def gemm_alternatives(
    isa: Isa, dims: GemmDims, storage: Storage, epilogue: Epilogue
) -> list[AnyGemm]:
    """All kernels for a matrix product; ``cost_model.gemm_cycles`` compares them.

    For few rows there is one that was always measured to be the fastest.
    """
    has_tiles = isa.tiles and storage != "s16" and dims.rows >= amx.TILE_ROWS
    gemv = gemv_spec(isa, dims, storage, epilogue)
    if gemv is not None and not has_tiles:
        return [gemv]
    heights = tile_heights(isa, dims.rows)
    specs: list[AnyGemm] = [gemm_spec(isa, dims, storage, epilogue, h) for h in heights]
    if has_tiles:
        specs.append(AmxGemmSpec(isa, storage, epilogue))
    return specs


def conv_alternatives(
    isa: Isa,
    dims: ConvDims,
    storage: Storage,
    epilogue: Epilogue,
    source: QuantizedRows | None = None,
) -> list[AnyConv]:
    """All kernels for a convolution that is not a product; ``cost_model.conv_cycles``.

    ``source``: of an image that it quantizes.
    """
    heights = conv_tile_heights(isa, dims)
    tiles = [conv_spec(isa, dims, storage, epilogue, h, source) for h in heights]
    pixels = in_pixels(tiles[0], dims)
    specs: list[AnyConv] = [*tiles, *([] if pixels is None else [pixels])]
    if source is None and isa.tiles and storage != "s16" and dims.groups == 1:
        specs.append(AmxConvSpec(isa, storage, epilogue, AmxStrip.of(dims).padded))
        specs.append(AmxGatheredSpec(isa, storage, epilogue))
    return specs
