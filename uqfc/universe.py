"""What the stock xDSL tools find through the entry point group ``xdsl.universe``."""

from __future__ import annotations

from functools import partial
from importlib import import_module

from xdsl.ir import Dialect
from xdsl.universe import Universe

from uqfc.passes import all_passes

DIALECTS = {
    "nn": "uqfc.dialects.nn:Nn",
    "qkernel": "uqfc.dialects.qkernel:Qkernel",
    "qnn": "uqfc.dialects.qnn:Qnn",
    "quant": "uqfc.dialects.quant:Quant",
}
"""Where each dialect is; imported when it is first used."""


def load_dialect(place: str) -> Dialect:
    """The dialect at ``module:attribute``."""
    module, _, attribute = place.partition(":")
    return getattr(import_module(module), attribute)


UQFC_UNIVERSE = Universe(
    all_dialects={name: partial(load_dialect, place) for name, place in DIALECTS.items()},
    all_passes=dict(all_passes()),
)
