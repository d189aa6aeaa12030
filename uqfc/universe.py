"""What the stock xDSL tools find through the entry point group ``xdsl.universe``."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import Any

from xdsl.universe import Universe

from uqfc.passes import all_passes

DIALECTS = {
    "nn": "uqfc.dialects.nn:Nn",
    "opaque": "uqfc.dialects.opaque:Opaque",
    "qkernel": "uqfc.dialects.qkernel:Qkernel",
    "qnn": "uqfc.dialects.qnn:Qnn",
    "quant": "uqfc.dialects.quant:Quant",
}
"""Where each dialect is; imported when it is first used."""

CODEGEN_PASSES = {
    "pack-weights": "uqfc.codegen.pack_weights:PackWeightsPass",
    "place-concats": "uqfc.codegen.place_concats:PlaceConcatsPass",
    "select-kernels": "uqfc.codegen.select_kernels:SelectKernelsPass",
}
"""Passes that need the kernels, and so are not in ``uqfc.passes``."""


def load(place: str) -> Any:
    """What is at ``module:attribute``."""
    module, _, attribute = place.partition(":")
    return getattr(import_module(module), attribute)


UQFC_UNIVERSE = Universe(
    all_dialects={name: partial(load, place) for name, place in DIALECTS.items()},
    all_passes={
        **all_passes(),
        **{name: partial(load, place) for name, place in CODEGEN_PASSES.items()},
    },
)
