from __future__ import annotations

import re
from importlib.metadata import EntryPoint, EntryPoints

import pytest
from xdsl.passes import ModulePass

import uqfc.passes
from uqfc.passes import all_passes, find_pass, load_plugin

NAMES = sorted(all_passes())


@pytest.mark.parametrize("name", NAMES)
def test_a_pass_has_the_name_of_its_file_and_states_its_law(name: str) -> None:
    each = all_passes()[name]()
    assert each.name == name
    assert issubclass(each, ModulePass)
    module = __import__(each.__module__, fromlist=["*"])
    documentation = f"{module.__doc__}{each.__doc__}"
    assert re.search(r"\blaw\b", documentation, re.IGNORECASE), f"{name} does not state its law"


def test_a_module_without_a_pass_of_its_name() -> None:
    with pytest.raises(LookupError, match="has no pass named 'rewriting'"):
        find_pass("uqfc.passes.support.rewriting")


def test_passes_of_other_distributions(monkeypatch: pytest.MonkeyPatch) -> None:
    place = "uqfc.passes.fold_constants:FoldConstantsPass"
    point = EntryPoint("my-pass", place, uqfc.passes.ENTRY_POINT_GROUP)
    monkeypatch.setattr(uqfc.passes, "entry_points", lambda group: EntryPoints([point]))
    assert all_passes()["my-pass"]().name == "fold-constants"


def test_a_plugin_must_be_a_pass() -> None:
    with pytest.raises(TypeError, match=r"'x' of uqfc\.passes is not a ModulePass"):
        load_plugin(EntryPoint("x", "math:pi", uqfc.passes.ENTRY_POINT_GROUP))
