"""``fold-calibration``: turns calibrated ranges into quantize points.

Every ``quant.observe`` whose point has a range (attributes ``low``, ``high``, float64) becomes
``quant.qcast`` + ``quant.dcast`` to u8, asymmetric, with zero exact. This is where values start to
be rounded: law, each value within its range moves by at most scale / 2. From here on every pass is
bit-exact but for ``convert-to-integer``, which fixes the order of the integer arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import FloatAttr, ModuleOp, f64
from xdsl.passes import ModulePass
from xdsl.rewriter import Rewriter

from uqfc.calibration import activation_parameters
from uqfc.dialects.quant import DcastOp, ObserveOp, QcastOp, QuantParams


def set_range(op: ObserveOp, low: float, high: float) -> None:
    """Record the calibrated range of a quantize point."""
    op.attributes["low"] = FloatAttr(low, f64)
    op.attributes["high"] = FloatAttr(high, f64)


def range_of(op: ObserveOp) -> tuple[float, float] | None:
    low, high = op.attributes.get("low"), op.attributes.get("high")
    if isinstance(low, FloatAttr) and isinstance(high, FloatAttr):
        return low.value.data, high.value.data
    return None


@dataclass(frozen=True)
class FoldCalibrationPass(ModulePass):
    """See the module's documentation. A point without a range is an error."""

    name = "fold-calibration"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for observe in [o for o in op.walk() if isinstance(o, ObserveOp)]:
            bounds = range_of(observe)
            if bounds is None:
                raise ValueError(f"quantize point '{observe.point.data}' was not calibrated")
            p = activation_parameters(*bounds)
            cast = QcastOp(observe.x, QuantParams.of("u8", p.scale, p.zero_point))
            Rewriter.replace_op(observe, [cast, DcastOp(cast)])
