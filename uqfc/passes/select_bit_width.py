"""``select-bit-width``: a weight type for every layer, with its reason.

Each layer gets the attributes ``weight_dtype`` (one of ``WEIGHT_DTYPES``), ``requested`` and
``reason``. What is requested is what ``bit_widths`` names for the layer, or follows from the
strategy. A weight type that the target lacks for the layer's op falls back to the next wider one,
to 8-bit floats where it has no integers (``narrowest_supported``), to float32 if there is none; a
layer that ``insert-observers`` left alone, because its weights are no constants, stays float32.

Law: exact. Only attributes change.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from xdsl.context import Context
from xdsl.dialects.builtin import FloatAttr, ModuleOp
from xdsl.passes import ModulePass

from uqfc.dialects import nn
from uqfc.dialects.quant import ObserveOp
from uqfc.dialects.quant.decisions import (
    SENSITIVITY,
    Decision,
    Reason,
    decision_of,
    set_decision,
)
from uqfc.float8 import FORMATS
from uqfc.passes.support.quantizable import LAYERS, table_op
from uqfc.targets import load_target

__all__ = [
    "FLOAT8",
    "SENSITIVITY",
    "WEIGHT_DTYPES",
    "WIDTHS",
    "Decision",
    "Reason",
    "SelectBitWidthPass",
    "decision_of",
    "narrowest_supported",
    "set_decision",
]

WIDTHS = ("binary", "ternary", "int4", "int8")
"""Types of weights, each of which holds the values of those before it."""
FLOAT8 = tuple(form.dtype for form in FORMATS.values())
"""Types of weights that are 8-bit floats, the more precise one first; activations are then e4m3."""
WEIGHT_DTYPES = ("int8", *FLOAT8, *reversed(WIDTHS[:-1]), "float32")
"""All that may be asked for a layer; with ``float32`` it computes in float32, on inputs that are
rounded to 8 bits like those of other layers."""

NOISE = 0.05
"""Share of a latency that two measurements of one kernel may differ by."""


def narrowest_supported(requested: str, supported: Collection[str]) -> str:
    """What a target has that is nearest to a type; int8 if it has nothing of the kind.

    For integers: the first of ``WIDTHS`` from there on, then 8-bit floats. For 8-bit floats: the
    other ones, then int8.
    """
    nearest = WIDTHS[WIDTHS.index(requested) :] if requested in WIDTHS else (requested,)
    return next((dtype for dtype in (*nearest, *FLOAT8) if dtype in supported), WIDTHS[-1])


@dataclass(frozen=True)
class SelectBitWidthPass(ModulePass):
    """``strategy`` is of ``WIDTHS`` or ``FLOAT8``, or mixed_int4_int8; ``target`` a name or path.
    ``granularity``: of the scales that weights will have.

    ``mixed_int4_int8`` keeps int8 where int4 would lose more than ``tolerance`` of the output's
    power; a layer without that statistic counts as not sensitive. ``bit_widths``, given in code
    only, has a type, or a decision that was made elsewhere, for layers by name.

    ``microseconds``, given in code only, has what was measured by layer and type. Where it is
    there, latency is what counts, beyond what the strategy says: a layer for which the strategy's
    type was measured to be slower than int8, by more than ``NOISE`` of it, gets int8, ``slower``.
    A type that ``bit_widths`` names was asked for as such, and is kept.
    """

    name = "select-bit-width"
    strategy: str = "int8"
    target: str = "host"
    tolerance: float = 0.01
    bit_widths: Mapping[str, str | Decision] = field(default_factory=dict[str, str | Decision])
    granularity: str = "per_channel"
    microseconds: Mapping[tuple[str, str], float] = field(
        default_factory=dict[tuple[str, str], float]
    )

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        table = load_target(self.target)
        for layer in op.walk():
            if isinstance(layer, LAYERS):
                supported = table.weights_for(table_op(layer), self.granularity)
                set_decision(layer, self.decide(layer, supported))

    def decide(self, layer: nn.Layer, supported: tuple[str, ...]) -> Decision:
        given = self.bit_widths.get(layer.layer)
        requested = given.requested if isinstance(given, Decision) else given or self.narrowest
        if not isinstance(layer.x.owner, ObserveOp):
            return Decision(requested, "float32", Reason.NO_KERNEL)
        if isinstance(given, Decision):
            return given
        if requested != "float32" and requested not in supported:
            nearest = narrowest_supported(requested, supported)
            chosen = nearest if nearest in supported else "float32"
            return Decision(requested, chosen, Reason.UNSUPPORTED_BY_TARGET)
        if given is not None or "int8" not in supported:
            return Decision(requested, requested, Reason.REQUESTED)
        loss = layer.attributes.get(SENSITIVITY)
        sensitive = isinstance(loss, FloatAttr) and loss.value.data > self.tolerance
        if self.strategy == "mixed_int4_int8" and sensitive:
            return Decision(requested, "int8", Reason.SENSITIVE)
        if self.is_slower(layer.layer, requested):
            return Decision(requested, "int8", Reason.SLOWER)
        return Decision(requested, requested, Reason.REQUESTED)

    def is_slower(self, layer: str, dtype: str) -> bool:
        """Whether the type was measured to take longer than int8."""
        taken, wide = (self.microseconds.get((layer, d)) for d in (dtype, "int8"))
        return taken is not None and wide is not None and taken > wide * (1 + NOISE)

    @property
    def narrowest(self) -> str:
        """What the strategy asks of a layer that nothing speaks against."""
        return self.strategy if self.strategy in (*WIDTHS, *FLOAT8) else "int4"
