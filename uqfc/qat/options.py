"""What ``prepare_qat`` is asked for: types, schemes, estimators, for all layers and for some."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

from uqfc.errors import UqfcError
from uqfc.qat.estimators import Estimator
from uqfc.qat.weights import GRANULARITIES

WEIGHT_DTYPES = ("int8", "int4", "ternary", "binary", "float32")
ACTIVATION_DTYPES = ("int8", "int4")


@dataclass(frozen=True)
class LayerOptions:
    """What is asked for one layer."""

    weight_dtype: str
    activation_dtype: str
    symmetric: bool | None = None
    per_channel: bool = True


@dataclass(frozen=True)
class Options:
    """What is asked for the network; ``layers`` has the changes for names that match a pattern."""

    default: LayerOptions
    estimator: Estimator
    activation_symmetric: bool = False
    layers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])

    def document(self) -> dict[str, Any]:
        """All fields as JSON values."""
        return {**asdict(self), "estimator": str(self.estimator)}

    @staticmethod
    def restored(document: Mapping[str, Any]) -> Options:
        """The inverse of ``document``; TypeError or ValueError if it is none."""
        fields = dict(document)
        default = LayerOptions(**fields.pop("default"))
        return Options(default, Estimator(fields.pop("estimator")), **fields)

    def of(self, layer: str) -> LayerOptions:
        """For the layer of that name: later patterns change what earlier ones say."""
        options = self.default
        for pattern, change in self.layers.items():
            if fnmatchcase(layer, pattern):
                options = layer_options(options, change, f"layers: '{pattern}'")
        return options


def parse_options(
    weight_dtype: str,
    activation_dtype: str,
    ste: str,
    config: Mapping[str, Any] | None,
) -> Options:
    """Of the arguments of ``prepare_qat``. UqfcError names what is wrong and what is accepted.

    ``config`` may have ``weight_quant`` (``symmetric``, ``granularity``), ``activation_quant``
    (``symmetric``, ``granularity``: activations are per tensor), and ``layers``: for patterns of
    layer names, as of a shell, changes to ``weight_dtype``, ``activation_dtype``, ``symmetric`` and
    ``granularity``.
    """
    if config is not None and not isinstance(config, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance] # users err
        raise UqfcError(f"config: {config!r}; accepted: a mapping")
    document = dict(config or {})
    weights = section(document, "weight_quant", ("symmetric", "granularity"))
    activations = section(document, "activation_quant", ("symmetric", "granularity"))
    layers = document.pop("layers", {})
    if document:
        accepted = "weight_quant, activation_quant, layers"
        raise UqfcError(f"config: unknown {', '.join(map(str, document))}; accepted: {accepted}")
    granularity = activations.get("granularity", "tensor")
    if not isinstance(granularity, str) or GRANULARITIES.get(granularity, True):
        raise UqfcError(f"config: activation_quant: granularity: '{granularity}'; accepted: tensor")
    first = LayerOptions(
        one_of(weight_dtype, WEIGHT_DTYPES, "weight_dtype"),
        one_of(activation_dtype, ACTIVATION_DTYPES, "activation_dtype"),
    )
    options = Options(
        layer_options(first, weights, "weight_quant"),
        Estimator(one_of(ste, tuple(Estimator), "ste")),
        boolean(activations.get("symmetric", False), "activation_quant: symmetric"),
        mapping(layers, "layers"),
    )
    for pattern in options.layers:
        options.of(pattern)
    return options


def layer_options(before: LayerOptions, change: Any, where: str) -> LayerOptions:
    accepted = ("weight_dtype", "activation_dtype", "symmetric", "granularity")
    found = section({where: change}, where, accepted)
    after = before
    if "weight_dtype" in found:
        dtype = one_of(found["weight_dtype"], WEIGHT_DTYPES, f"config: {where}: weight_dtype")
        after = replace(after, weight_dtype=dtype)
    if "activation_dtype" in found:
        what = f"config: {where}: activation_dtype"
        dtype = one_of(found["activation_dtype"], ACTIVATION_DTYPES, what)
        after = replace(after, activation_dtype=dtype)
    if "symmetric" in found:
        after = replace(after, symmetric=boolean(found["symmetric"], f"{where}: symmetric"))
    if "granularity" in found:
        names = tuple(GRANULARITIES)
        name = one_of(found["granularity"], names, f"config: {where}: granularity")
        after = replace(after, per_channel=GRANULARITIES[name])
    if after.weight_dtype in ("ternary", "binary") and after.symmetric is False:
        raise UqfcError(f"config: {where}: {after.weight_dtype} weights are symmetric")
    return after


def section(document: dict[str, Any], name: str, accepted: tuple[str, ...]) -> dict[str, Any]:
    """A part of the configuration, taken out of it. UqfcError for what it may not hold."""
    found = mapping(document.pop(name, {}), name)
    unknown = [key for key in found if key not in accepted]
    if unknown:
        names = ", ".join(map(str, unknown))
        raise UqfcError(f"config: {name}: unknown {names}; accepted: {', '.join(accepted)}")
    return found


def mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise UqfcError(f"config: {where}: {value!r}; accepted: a mapping")
    return {str(key): item for key, item in value.items()}


def boolean(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise UqfcError(f"config: {where}: {value!r}; accepted: True, False")
    return value


def one_of(value: Any, accepted: tuple[str, ...], where: str) -> str:
    if value not in accepted:
        raise UqfcError(f"{where}: {value!r} is unknown; accepted: {', '.join(accepted)}")
    return str(value)
