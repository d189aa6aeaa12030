"""``SensitivityTable``: what each layer's weight types cost, as numbers that a search adds up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, cast

from uqfc.errors import UqfcError

Item = tuple[str, str]
"""A layer and the type of its weights."""

_FIELDS = ("method", "layers", "loss", "error", "units", "agreement", "key")


@dataclass(frozen=True)
class SensitivityTable:
    """Predicted loss of single layers.

    ``loss``: (layer, weight type) → predicted increase of the loss, in the method's unit (nats of
    the KL divergence for ``kl``); 0 for the layer's reference type. ``error``: half the width of
    its 95 % confidence interval. ``units``: samples or probes that were measured, and
    ``agreement``: Kendall's τ between the rankings of the layers by two halves of them (the lowest
    over the types). ``key``: SHA-256 of network, data and options.
    """

    method: str
    layers: tuple[str, ...]
    loss: Mapping[Item, float] = field(repr=False)
    error: Mapping[Item, float] = field(repr=False)
    units: int = 0
    agreement: float = 1.0
    key: str = ""

    def predicted(self, bit_widths: Mapping[str, str]) -> float:
        """The additive prediction: the sum over the layers. UqfcError for what is not in it."""
        total = 0.0
        for layer, dtype in bit_widths.items():
            if (layer, dtype) not in self.loss:
                known = [d for name, d in self.loss if name == layer]
                accepted = ", ".join(known) or f"layers {', '.join(self.layers)}"
                raise UqfcError(
                    f"sensitivity of layer '{layer}' with {dtype} weights was not measured; "
                    f"measured: {accepted}"
                )
            total += self.loss[layer, dtype]
        return total

    def ranking(self, dtype: str) -> list[str]:
        """The layers that can have weights of this type, the most sensitive first."""
        layers = [layer for layer in self.layers if (layer, dtype) in self.loss]
        return sorted(layers, key=lambda layer: -self.loss[layer, dtype])

    def document(self) -> dict[str, Any]:
        """JSON values; ``from_document`` is the inverse."""
        return {
            "method": self.method,
            "layers": list(self.layers),
            "loss": _nested(self.loss),
            "error": _nested(self.error),
            "units": self.units,
            "agreement": self.agreement,
            "key": self.key,
        }

    @staticmethod
    def from_document(document: object, source: str = "sensitivity table") -> SensitivityTable:
        """UqfcError names the field that is not as ``document`` writes it."""
        if not isinstance(document, dict) or set(cast(dict[str, Any], document)) != set(_FIELDS):
            raise UqfcError(f"{source}: accepted: an object with {', '.join(_FIELDS)}")
        values = cast(dict[str, Any], document)
        layers = values["layers"]
        if not isinstance(layers, list) or not all(
            isinstance(layer, str) for layer in cast(list[Any], layers)
        ):
            raise UqfcError(f"{source}: layers: accepted: a list of names")
        for name, kind in (("method", str), ("key", str), ("units", int), ("agreement", float)):
            if not isinstance(values[name], kind):
                raise UqfcError(f"{source}: {name}: accepted: {kind.__name__}")
        names = tuple(cast(list[str], layers))
        loss = _flat(values["loss"], f"{source}: loss", names)
        error = _flat(values["error"], f"{source}: error", names)
        if set(loss) != set(error):
            raise UqfcError(f"{source}: loss and error do not have the same entries")
        return SensitivityTable(
            values["method"],
            names,
            loss,
            error,
            values["units"],
            values["agreement"],
            values["key"],
        )


def _nested(values: Mapping[Item, float]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for (layer, dtype), value in values.items():
        found.setdefault(layer, {})[dtype] = value
    return found


def _flat(values: object, source: str, layers: tuple[str, ...]) -> dict[Item, float]:
    accepted = "accepted: an object of objects of finite numbers, by layer and weight type"
    if not isinstance(values, dict):
        raise UqfcError(f"{source}: {accepted}")
    found: dict[Item, float] = {}
    for layer, row in cast(dict[str, Any], values).items():
        if layer not in layers:
            raise UqfcError(f"{source}: '{layer}' is not among the layers")
        if not isinstance(row, dict):
            raise UqfcError(f"{source}: layer '{layer}': {accepted}")
        for dtype, value in cast(dict[str, Any], row).items():
            if not isinstance(value, int | float) or not isfinite(value):
                raise UqfcError(f"{source}: layer '{layer}': {dtype}: {accepted}")
            found[layer, dtype] = float(value)
    return found
