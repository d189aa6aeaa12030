"""Every converter against torch, from the program as exported and from its core ATen form."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

from tests.frontend.torch.cases import EXACT, MOVES, NEAR, case_inputs
from tests.frontend.torch.exported import Function, core, expected, export, run
from uqfc.dialects.tensors import Array

torch = pytest.importorskip("torch")

from tests.frontend.torch.support import DOCUMENT, markdown, version  # noqa: E402 - needs torch
from uqfc.frontend.torch import CONVERTERS  # noqa: E402
from uqfc.frontend.torch.importer import Importer  # noqa: E402
from uqfc.frontend.torch.program import Program, op_name, read_program  # noqa: E402

FAMILIES = {"moves": MOVES, "exact": EXACT, "near": NEAR}
FORMS = ("exported", "core")


class Cases(torch.nn.Module):
    """Calls every case with the same inputs: one export for all is faster than one for each."""

    def __init__(self, functions: dict[str, Function]) -> None:
        super().__init__()
        self.functions = functions

    def forward(self, x: Any, i: Any) -> dict[str, Any]:
        return {name: function(x, i) for name, function in self.functions.items()}


@cache
def program(family: str, form: str) -> Program:
    """The program of a family's cases as the import sees it."""
    exported = export(Cases(FAMILIES[family]), case_inputs())
    return read_program(exported if form == "exported" else core(exported), "test")


def names(results: dict[str, Any]) -> list[str]:
    """The case that each of the flat results is of."""
    leaves = torch.utils._pytree.tree_leaves
    return [name for name, result in results.items() for _ in leaves(result)]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("family", FAMILIES)
def test_results_are_those_of_torch(family: str, form: str) -> None:
    """Equal, but in the family "near": two orders of summing k products differ by at most
    ``2 * k * 2**-24`` of the sum of their magnitudes, here with k <= 64 and magnitudes of a few
    units, whose sum is about that of the result or of 1, so that 64 * 2**-23 < 1e-5 of either;
    and functions are within some ulps."""
    inputs = case_inputs()
    module = Cases(FAMILIES[family])
    network = Importer(program(family, form), "test").run()
    assert network is not None
    ours = run(network.module, inputs)
    theirs = expected(module, inputs)
    labels = names(module(*inputs))
    for name, a, b in zip(labels, ours, theirs, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype), name
        check(name, a, b, 1e-5 if family == "near" else 0.0)


def check(name: str, a: Array, b: Array, tolerance: float) -> None:
    if a.dtype.kind == "f" and tolerance:
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance, err_msg=name)
    else:
        np.testing.assert_array_equal(a, b, err_msg=name)


def test_every_converter_is_tested() -> None:
    used = {
        op_name(node)
        for family in FAMILIES
        for form in FORMS
        for node in program(family, form).calls
    }
    assert sorted(set(CONVERTERS) - used) == []


def test_the_document_is_up_to_date() -> None:
    """After a change: ``python -m tests.frontend.torch.support`` writes it anew."""
    text = DOCUMENT.read_text(encoding="utf-8")
    if f"with torch {version()};" not in text:
        pytest.skip(f"the document is not about the installed torch {version()}")
    assert text == markdown()
