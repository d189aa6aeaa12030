"""``fold-calibration``: turns calibrated ranges into quantize points.

Every ``quant.observe`` whose point has a range (attributes ``low``, ``high``, float64) becomes
``quant.qcast`` + ``quant.dcast`` to u8, asymmetric, with zero exact. This is where values start to
be rounded: law, each value within its range moves by at most scale / 2.

What a layer with weights of 8-bit floats reads becomes e4m3 instead, whichever format its weights
have: activations need e4m3's mantissa more than e5m2's range, as calibration knows theirs. So does
what is read by no layer, if no layer has integer weights. Law: each value within its range moves by
at most 1/16 of its magnitude, or 2**-10 scales. A point that is read as both is rounded to each.

From here on every pass is
bit-exact but for ``convert-to-integer``, which fixes the order of the integer arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import FloatAttr, ModuleOp, f64
from xdsl.ir import Use
from xdsl.passes import ModulePass
from xdsl.rewriter import InsertPoint, Rewriter

from uqfc.calibration import activation_parameters, float8_scale
from uqfc.dialects.quant import DcastOp, ObserveOp, QcastOp, QuantParams
from uqfc.dialects.quant.decisions import decision_of
from uqfc.float8 import E4M3
from uqfc.passes.select_bit_width import FLOAT8, WIDTHS
from uqfc.passes.support.quantizable import LAYERS


def set_range(op: ObserveOp, low: float, high: float) -> None:
    """Record the calibrated range of a quantize point."""
    op.attributes["low"] = FloatAttr(low, f64)
    op.attributes["high"] = FloatAttr(high, f64)


def range_of(op: ObserveOp) -> tuple[float, float] | None:
    low, high = op.attributes.get("low"), op.attributes.get("high")
    if isinstance(low, FloatAttr) and isinstance(high, FloatAttr):
        return low.value.data, high.value.data
    return None


def reads_float8(use: Use, otherwise: bool) -> bool:
    """Whether an operand is to be 8-bit floats; ``otherwise`` where its op is no layer."""
    layer = use.operation
    decision = decision_of(layer) if isinstance(layer, LAYERS) and use.index == 0 else None
    if decision is None or decision.chosen not in (*FLOAT8, *WIDTHS):
        return otherwise
    return decision.chosen in FLOAT8


def fold(observe: ObserveOp, low: float, high: float, only_float8: bool) -> None:
    """Replace a point by casts to u8, to e4m3, or for each use the one it asks for."""
    uses = list(observe.result.uses)
    as_float8 = {use for use in uses if reads_float8(use, only_float8)}
    affine = activation_parameters(low, high)
    integers = QuantParams.of("u8", affine.scale, affine.zero_point)
    floats = QuantParams.of(E4M3.name, float8_scale(low, high, E4M3.largest))
    for params, own in ((floats, as_float8), (integers, set(uses) - as_float8)):
        if not own and (uses or params is floats):
            continue
        cast = QcastOp(observe.x, params)
        restored = DcastOp(cast)
        Rewriter.insert_op([cast, restored], InsertPoint.before(observe))
        for use in own:
            use.operation.operands[use.index] = restored.result
    Rewriter.erase_op(observe)


@dataclass(frozen=True)
class FoldCalibrationPass(ModulePass):
    """See the module's documentation. A point without a range is an error."""

    name = "fold-calibration"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        chosen = {d.chosen for layer in op.walk() if (d := decision_of(layer)) is not None}
        only_float8 = bool(chosen & set(FLOAT8)) and not chosen & set(WIDTHS)
        for observe in [o for o in op.walk() if isinstance(o, ObserveOp)]:
            bounds = range_of(observe)
            if bounds is None:
                raise ValueError(f"quantize point '{observe.point.data}' was not calibrated")
            fold(observe, *bounds, only_float8)
