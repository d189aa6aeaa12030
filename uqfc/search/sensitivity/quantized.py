"""Runs any assignment of weight types on compiled kernels, by replacing constants.

The network with one weight type everywhere is lowered once for each type, with 4-bit weights held
as 8-bit ones (``widen-weights``, which is exact); the constants of a layer then come from the
network of its type. Every bit of the outputs is that of the network compiled for the assignment:
sums of integers do not depend on how the weights are stored. Where the kernels of a type differ
(because its weights allow, or ask for, other instructions) an assignment is compiled by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from xdsl.dialects.builtin import ModuleOp

from uqfc.cache import Cache
from uqfc.calibrated import Calibrated
from uqfc.dialects.qnn import IntegerLayerOp
from uqfc.dialects.tensors import Array
from uqfc.passes.widen_weights import widen
from uqfc.pipeline import integer_passes, run_passes
from uqfc.search.sensitivity.kernels import Assembled, Runner, assemble


class QuantizedNetworks:
    """All networks that differ in the weight types of their layers, on this machine.

    ``reference`` has the widest type of every layer, which those have that an assignment does not
    name. ``same``: by weight type, the network with that type everywhere, where its code is the
    one that is shared. ``kernels``: the target whose kernels run, whatever the network's; all give
    the same bits.
    """

    def __init__(
        self, calibrated: Calibrated, cache: Cache | None = None, *, kernels: str = "host"
    ) -> None:
        self.calibrated = calibrated
        self.cache = cache
        self.kernels = kernels
        self.layers = tuple(layer for layer in calibrated.layers if layer.choices)
        self.reference = {layer.name: layer.choices[0] for layer in self.layers}
        widest = self._assembled(self.reference)
        self._general = Runner(widest, cache)
        self.same: dict[str, Assembled] = {}
        self._present = dict(self.reference)
        for dtype in dict.fromkeys(dtype for layer in self.layers for dtype in layer.choices):
            wanted = self._everywhere(dtype)
            found = widest if wanted == self.reference else self._assembled(wanted)
            if found.fits(widest) and found.differs_in_layers_only(widest):
                self.same[dtype] = found

    @property
    def shared(self) -> tuple[str, ...]:
        """Types between which layers change without compiling anything."""
        return tuple(self.same)

    def run(
        self, bit_widths: Mapping[str, str], samples: Sequence[Mapping[str, Array]]
    ) -> list[Array]:
        """Every output of all samples, [samples, *shape] each."""
        wanted = {**self.reference, **bit_widths}
        if not set(wanted.values()) <= set(self.same):
            return Runner(self._assembled(wanted), self.cache).run(samples)
        for layer, dtype in wanted.items():
            if self._present[layer] != dtype:
                self._general.set(layer, self.same[dtype].of_layer(layer))
                self._present[layer] = dtype
        return self._general.run(samples)

    def _everywhere(self, dtype: str) -> dict[str, str]:
        """The type for all layers that can have it."""
        return {
            layer.name: dtype if dtype in layer.choices else layer.choices[0]
            for layer in self.layers
        }

    def _assembled(self, bit_widths: Mapping[str, str]) -> Assembled:
        return assemble(self._integer(bit_widths), self.kernels)

    def _integer(self, bit_widths: Mapping[str, str]) -> ModuleOp:
        """The integer network, without narrow weights: kernels would rely on how small they are."""
        module = self.calibrated.quantized(bit_widths)
        run_passes(module, integer_passes())
        for op in list(module.walk()):
            if isinstance(op, IntegerLayerOp):
                widen(op)
        return module
