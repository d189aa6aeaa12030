"""The stock xDSL tools see the dialects and passes."""

from __future__ import annotations

from importlib.metadata import EntryPoint, EntryPoints

import pytest
from xdsl.universe import Universe

from uqfc.passes import all_passes
from uqfc.universe import UQFC_UNIVERSE


def test_dialects_are_registered_by_their_names() -> None:
    loaded = {name: factory() for name, factory in UQFC_UNIVERSE.all_dialects.items()}
    assert {name: dialect.name for name, dialect in loaded.items()} == {n: n for n in loaded}
    assert set(loaded) == {"nn", "opaque", "quant", "qnn", "qkernel"}


def test_all_passes_are_registered() -> None:
    assert set(all_passes()) < set(UQFC_UNIVERSE.all_passes)
    for name, factory in UQFC_UNIVERSE.all_passes.items():
        assert factory().name == name


def test_no_name_clashes_with_the_stock_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    points = EntryPoints(
        [
            EntryPoint("uqfc", "uqfc.universe:UQFC_UNIVERSE", "xdsl.universe"),
            EntryPoint("xdsl", "xdsl.universe:XDSL_UNIVERSE", "xdsl.universe"),
        ]
    )
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: points)
    everything = Universe.get_multiverse()
    assert {"nn", "quant", "func"} <= set(everything.all_dialects)
    assert {"sink-transposes", "cse"} <= set(everything.all_passes)
