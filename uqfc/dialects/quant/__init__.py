"""Quantized types in upstream MLIR's syntax, and the casts that place the quantize points.

``!quant.uniform<u8:f32, 0.02:128>`` per tensor, ``!quant.uniform<i4:f32:0, {0.021, 0.018:-1}>`` per
channel of axis 0, ``!quant.uniform<i8<-127:127>:f32, 0.5>`` with a narrower range than the storage,
``!quant.uniform<u4:f32:{1:32}, {0.5:8, 0.25:7, …}>`` with one scale per block of 32 along axis 1
(scales in row-major order of the blocks).

8-bit floats are ``!quant.uniform<f8E4M3FN:f32, 0.5>`` and ``!quant.uniform<f8E5M2:f32:0, {…}>``.

Ternary weights are ``i2<-1:1>``; binary ones have the same type and no value 0.
"""

from __future__ import annotations

from xdsl.ir import Dialect

from uqfc.dialects.quant.casts import DcastOp, ObserveOp, QcastOp, ScastOp
from uqfc.dialects.quant.types import (
    STORAGE_ELEMENTS,
    STORAGE_RANGES,
    QuantParams,
    UniformType,
    block_grid,
    check_fits,
    check_params,
    uniform_of,
)

Quant = Dialect("quant", [DcastOp, ObserveOp, QcastOp, ScastOp], [UniformType])

__all__ = [
    "STORAGE_ELEMENTS",
    "STORAGE_RANGES",
    "DcastOp",
    "ObserveOp",
    "QcastOp",
    "Quant",
    "QuantParams",
    "ScastOp",
    "UniformType",
    "block_grid",
    "check_fits",
    "check_params",
    "uniform_of",
]
