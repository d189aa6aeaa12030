"""``kl`` and ``mse``: how far the outputs move when one layer's weights get a narrower type.

With ``q`` the deployed network in which every layer has its widest type, and ``q(l, d)`` the one in
which layer ``l`` has weights of type ``d``, the entry is the mean over samples of

    D(q(x), q(l, d)(x))

where ``D(y, z)`` is the KL divergence KL(softmax y ‖ softmax z) in nats, or the mean squared error
of the outputs. Both networks are the integer networks that would be deployed, to the bit.

The reference is ``q`` and not the float network: against that, the rounding of all activations
counts in both terms of a difference, and the cross terms hide layers that matter little. On the two
networks of docs/benchmarks/sensitivity.json, rankings by two halves of 32 samples agree far better
(Kendall's τ of INT4: 0.66 for -0.12, and 0.98 for 0.50), and true drops are predicted as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from uqfc.numerics import F64
from uqfc.search.sensitivity.divergence import Distance
from uqfc.search.sensitivity.table import Item
from uqfc.search.sensitivity.units import PerSample, item_name


@dataclass(frozen=True)
class OutputLoss(PerSample):
    """A value for each sample; see the module's documentation."""

    distance: Distance

    def measure(self, item: Item, start: int, stop: int) -> dict[str, F64]:
        layer, dtype = item
        return {item_name(layer, dtype): self.moved({layer: dtype}, start, stop)}

    def moved(self, bit_widths: Mapping[str, str], start: int, stop: int) -> F64:
        """By an assignment, of these samples; layers that it does not name have the widest type."""
        setting = self.setting
        outputs = setting.quantized.run(bit_widths, setting.samples[start:stop])
        return self.distance([y[start:stop] for y in setting.reference_outputs], outputs)
