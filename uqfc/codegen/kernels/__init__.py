"""Integer kernels, and how generated code uses them.

A *spec* (``GemmSpec``, ``GemvSpec``, ``ConvSpec``, ``DepthwiseSpec``) is a frozen, hashable
dataclass of what is fixed in the code: instruction set, weight storage, tile, epilogue. Sizes,
strides, pointers and scalars are arguments, so a network needs few distinct functions; ``emit``
makes each of them once per module. A caller that holds NumPy weights and static shapes does::

    epilogue = Epilogue("u8", activation=None, residual=True)
    spec = gemm_spec(isa, dims, storage="u4", epilogue=epilogue)         # dims: GemmDims, or
    spec = gemv_spec(isa, dims, storage="u4", epilogue=epilogue)         # likewise; may be None, or
    spec = conv_spec(isa, dims, storage="s8", epilogue=epilogue)         # dims: ConvDims, unless
                                                                         # dims.is_product; or
    spec = depthwise_spec(isa, dims, storage="u4", epilogue=epilogue)    # or

    layout = spec.layout(dims)            # packing.PanelLayout, or one for each group (ConvSpec)
    blob = spec.pack(dims, weights, zero_points)        # uint8[layout.bytes]; see below
    addend = spec.pad(dims, addend)       # int32[N] -> int32[padded N], likewise multipliers; as
                                          # the epilogue wants them: see Epilogue.constants
    bytes_needed = spec.scratch_bytes(dims)             # 64-byte aligned memory during the call
    spec.call(b, Operands(x, weights, addend, multiplier, out, residual, scratch), dims, scalars)

``call`` emits (at most once per module) the functions that it needs and one call instruction with
the sizes as constants. ``spec.name`` is the name of the function called.

Dims are ``GemmDims(rows, k, n, lda, ldc, ldr)`` or ``ConvDims`` (NHWC; also for depthwise).
``Scalars`` are Python numbers: see ``epilogue``.

Weights are what the kernel multiplies raw ``u8`` activations with, ``sum_k x[k] * (w[k] - zw)``:
int32 arrays [N, K] with zero points [N]; convolutions use [Cout, kh, kw, Cin / groups], depthwise
[C, kh, kw]. Storage: ``s8`` (zero points must be 0), ``u4`` (values 0..15, any zero point 0..15;
s4 is stored as value + 8 with zero point + 8), ``u2`` (likewise 0..3), ``s16`` (zero points must be
0; for 8-bit weights whose difference to their zero point needs 9 bits). Addends hold the bias and
``-zx * sum(w - zw)``. The sum must fit int32, which the caller proves.

Memory contract: ``x``, ``residual`` and ``scratch`` have 64 readable bytes after their end; ``x``
is not ``out``; ``residual`` may be ``out`` itself; nothing is written past the end of ``out``.
``weights``, ``addend`` and ``multiplier`` are read within their bounds. Nothing needs alignment,
but weights and scratch memory are faster on 64-byte lines.

Names: ``u8_{w}_{op}_{tile}[_{activation}][_add]_{output}[_{known}]__{isa}``, where ``w`` is
``i8c``, ``i4c``, ``i2c`` or ``i16c`` (weights with a scale per channel), ``op`` is ``gemm``,
``gemv``, ``conv`` or ``dwconv``, ``known`` is what is known of u8 outputs (``saturating.Known``),
and ``tile`` is ``14x32c4``: 14 rows by 32 channels, 4 values of K at a time; ``7x32c4o8`` or ``o3``
spreads the outputs of the tile before over so many groups of K; depthwise has ``3x3s1x64x16``:
kernel size, stride (``s2x1`` if the two differ), dilation if there is any, channels at a time and
those at a time of what is left (``x2x64x16``: of two outputs of a row), or ``5x5s1p7x16``, where
input columns are stored: outputs of a row at a time and their channels. ``odd``: two output rows at
a time, but the last one of an image. ``conv_valid`` reads images that need no padding where they
are; a convolution that is a matrix product is ``gemm``. A product of few rows is ``gemv``.
``conv_quantized3[_division][_whole][_z0]`` quantizes float images of 3 channels, dividing by the
scale where multiplying by its reciprocal is not known to give the same; the rest is what is known
of these values.
``conv_3x3x3s2_8x16c4`` keeps the weights of 16 channels in registers: kernel size, channels of the
image, stride; ``joined`` if there are 16, ``part`` if not a multiple of them. On matrix tiles the
``tile`` is ``32x32c64`` and the end ``amx``.
"""

from __future__ import annotations

from uqfc.codegen.kernels.conv import ConvSpec, conv_spec
from uqfc.codegen.kernels.depthwise import DepthwiseSpec, depthwise_spec
from uqfc.codegen.kernels.epilogue import Epilogue, Scalars
from uqfc.codegen.kernels.gemm import GemmSpec, gemm_spec
from uqfc.codegen.kernels.gemv import GemvSpec, gemv_spec
from uqfc.codegen.kernels.operands import ConvDims, GemmDims, Operands

__all__ = [
    "ConvDims",
    "ConvSpec",
    "DepthwiseSpec",
    "Epilogue",
    "GemmDims",
    "GemmSpec",
    "GemvSpec",
    "Operands",
    "Scalars",
    "conv_spec",
    "depthwise_spec",
    "gemm_spec",
    "gemv_spec",
]
