"""What all methods measure with: networks, samples and the choices of weight types."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import ModuleOp

from uqfc.cache import Cache
from uqfc.calibrated import Calibrated
from uqfc.calibration import iterate
from uqfc.dialects.nn import ConstantOp
from uqfc.dialects.tensors import Array, numpy_dtype, type_of
from uqfc.errors import UqfcError
from uqfc.interpreter import input_names, main_function
from uqfc.search.sensitivity.floating import FloatNetworks, Parameters, parameters_of
from uqfc.search.sensitivity.quantized import QuantizedNetworks
from uqfc.search.sensitivity.table import Item

Samples = Sequence[Mapping[str, Array]]


def read_samples(calibrated: Calibrated, source: object, limit: int) -> Samples:
    """At most ``limit`` inputs of the network from what calibration accepts. UqfcError for none."""
    function = main_function(calibrated.module)
    kinds = [type_of(argument) for argument in function.body.block.args]
    inputs = {
        name: (tuple(kind.get_shape()), numpy_dtype(kind.get_element_type()))
        for name, kind in zip(input_names(function), kinds, strict=True)
    }
    found: list[Mapping[str, Array]] = [
        {name: array.copy() for name, array in each.items()}
        for each in iterate(source, inputs, limit=limit)
    ]
    if len(found) < 2:
        raise UqfcError(f"sensitivity: {len(found)} sample(s); accepted: 2 or more")
    return found


def checked_choices(
    calibrated: Calibrated, choices: Mapping[str, Sequence[str]] | None
) -> dict[str, tuple[str, ...]]:
    """The types to measure, by layer: its reference type comes first.

    UqfcError for a layer or a type that there is not.
    """
    known = {layer.name: tuple(layer.choices) for layer in calibrated.layers if layer.choices}
    if choices is None:
        return known
    for layer, dtypes in choices.items():
        if layer not in known:
            near = get_close_matches(layer, known, 3, 0.0)
            raise UqfcError(
                f"no layer '{layer}' with a choice of types; nearest: {', '.join(near)}"
            )
        for dtype in dtypes:
            if dtype not in known[layer]:
                accepted = ", ".join(known[layer])
                raise UqfcError(f"layer '{layer}': weights of '{dtype}'; accepted: {accepted}")
    return {
        layer: tuple(dict.fromkeys([known[layer][0], *dtypes])) for layer, dtypes in choices.items()
    }


class Digest(Protocol):
    """Of ``hashlib``."""

    def update(self, data: bytes, /) -> None: ...


@dataclass(frozen=True)
class Setting:
    """``choices``: weight types by layer, the reference first. ``labels``: of the samples."""

    calibrated: Calibrated
    samples: Samples
    choices: Mapping[str, tuple[str, ...]]
    labels: NDArray[np.int64] | None = None
    seed: int = 0

    @cached_property
    def quantized(self) -> QuantizedNetworks:
        return QuantizedNetworks(self.calibrated, Cache())

    @cached_property
    def floating(self) -> FloatNetworks:
        return FloatNetworks(self.calibrated, Cache())

    @cached_property
    def float_outputs(self) -> list[Array]:
        """Of the float network on all samples."""
        return self.floating.run(self.samples)

    @cached_property
    def reference_outputs(self) -> list[Array]:
        """Of the quantized network with the widest types, on all samples."""
        return self.quantized.run({}, self.samples)

    @cached_property
    def items(self) -> tuple[Item, ...]:
        """All that is measured: each layer with each of its types but the reference."""
        return tuple((layer, d) for layer, dtypes in self.choices.items() for d in dtypes[1:])

    @cached_property
    def quantized_parameters(self) -> dict[Item, Parameters]:
        """Real values of every item's weights and bias."""
        found: dict[Item, Parameters] = {}
        for dtype in dict.fromkeys(dtype for _, dtype in self.items):
            layers = [layer for layer, other in self.items if other == dtype]
            widths = {layer.name: layer.choices[0] for layer in self.calibrated.layers}
            module = self.calibrated.quantized(widths | dict.fromkeys(layers, dtype))
            for layer, parameters in parameters_of(module, layers).items():
                found[layer, dtype] = parameters
        return found

    def key(self, method: str) -> str:
        """SHA-256 of all that a measurement depends on."""
        digest = hashlib.sha256(f"{method} {self.seed} {sorted(self.choices.items())}".encode())
        update_by_module(digest, self.calibrated.module)
        for (layer, dtype), parameters in self.quantized_parameters.items():
            digest.update(f"{layer} {dtype}".encode() + parameters.flat.tobytes())
        for sample in self.samples:
            for name, array in sample.items():
                digest.update(f"{name} {array.dtype} {array.shape}".encode())
                digest.update(np.ascontiguousarray(array).tobytes())
        if self.labels is not None:
            digest.update(self.labels.tobytes())
        return digest.hexdigest()


def update_by_module(digest: Digest, module: ModuleOp) -> None:
    """Take in every op with its types, properties and attributes, and how they are connected."""
    numbers: dict[object, int] = {}
    for op in module.walk():
        operands = [numbers.setdefault(value, len(numbers)) for value in op.operands]
        results = [(numbers.setdefault(v, len(numbers)), str(v.type)) for v in op.results]
        digest.update(f"{op.name} {operands} {results}".encode())
        if isinstance(op, ConstantOp):
            digest.update(np.ascontiguousarray(op.array).tobytes())
            continue
        facts = {**op.properties, **op.attributes}
        digest.update(str(sorted((name, str(value)) for name, value in facts.items())).encode())
