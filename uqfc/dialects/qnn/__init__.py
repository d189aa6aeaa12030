"""The integer graph: 8-bit activations, weights of 2 to 9 bits, exact int32 sums.

Activations are ``tensor<…xui8>``. Weights keep their storage type (i8, ui8, i4, ui4, i16; ui2 after
``canonicalize-weights``) and a zero point per output channel. The addend holds bias and zero-point
corrections, the multiplier the ratio of scales; both are constants of one value per output channel.

Layers of 8-bit floats are ops of their own (``qnn.float8``).
"""

from __future__ import annotations

from xdsl.ir import Dialect

from uqfc.dialects.qnn.casts import DequantizeOp, LookupOp, QuantizeOp
from uqfc.dialects.qnn.elementwise import QAddOp, QAvgPool2dOp, QBinaryOp, QMulOp
from uqfc.dialects.qnn.epilogue import Epilogue, EpilogueAttr
from uqfc.dialects.qnn.float8 import (
    FORMAT_OF,
    Float8Conv2dOp,
    Float8DequantizeOp,
    Float8LayerOp,
    Float8LinearOp,
    Float8QuantizeOp,
    format_of,
)
from uqfc.dialects.qnn.layers import (
    WEIGHT_ELEMENTS,
    IntegerLayerOp,
    QConv2dOp,
    QLinearOp,
    QMatmulOp,
)

Qnn = Dialect(
    "qnn",
    [
        DequantizeOp,
        Float8Conv2dOp,
        Float8DequantizeOp,
        Float8LinearOp,
        Float8QuantizeOp,
        LookupOp,
        QAddOp,
        QAvgPool2dOp,
        QConv2dOp,
        QLinearOp,
        QMatmulOp,
        QMulOp,
        QuantizeOp,
    ],
    [EpilogueAttr],
)

__all__ = [
    "FORMAT_OF",
    "WEIGHT_ELEMENTS",
    "DequantizeOp",
    "Epilogue",
    "EpilogueAttr",
    "Float8Conv2dOp",
    "Float8DequantizeOp",
    "Float8LayerOp",
    "Float8LinearOp",
    "Float8QuantizeOp",
    "IntegerLayerOp",
    "LookupOp",
    "QAddOp",
    "QAvgPool2dOp",
    "QBinaryOp",
    "QConv2dOp",
    "QLinearOp",
    "QMatmulOp",
    "QMulOp",
    "Qnn",
    "QuantizeOp",
    "format_of",
]
