"""The tutorial's code is that of its example, and what it says happens."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo import gated_network, one_norm, random_input
from tests.codegen.harness import SEEDS
from tests.codegen.tensor_harness import (
    SIZES,
    check,
    every_isa,
    operand,
    ordinary_floats,
    random_array,
    some_examples,
)
from uqfc.codegen.isa import Isa
from uqfc.dialects import nn
from uqfc.dialects.tensors import tensor_type
from uqfc.elementary import UNARY, evaluate
from uqfc_rms_norm import FuseRmsNormPass, RmsNormOp
from uqfc_rms_norm.kernel import RmsNormKernel
import uqfc

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples" / "custom_op"
TUTORIAL = (ROOT / "docs" / "tutorial_custom_op.md").read_text()
FENCE = r"^```(\w*)\n(.*?)^```"


def quotations() -> list[tuple[str, str]]:
    """Each file that the tutorial quotes, and the quoted text."""
    named = re.compile(r"^\[`[^`]+`\]\(\.\./([^)]+)\)\n\n" + FENCE, re.MULTILINE | re.DOTALL)
    return [(match[1], match[3]) for match in named.finditer(TUTORIAL)]


def scripts() -> list[str]:
    """The Python blocks that are no quotation, in order."""
    quoted = {text for _, text in quotations()}
    found = re.findall(FENCE, TUTORIAL, re.MULTILINE | re.DOTALL)
    return [text for language, text in found if language == "python" and text not in quoted]


def test_all_files_are_quoted() -> None:
    names = {Path(path).name for path, _ in quotations()}
    assert names >= {path.name for path in (EXAMPLE / "uqfc_rms_norm").glob("*.py")}


@pytest.mark.parametrize(("path", "text"), quotations(), ids=[path for path, _ in quotations()])
def test_quotations_are_the_files(path: str, text: str) -> None:
    assert text in (ROOT / path).read_text()


def test_the_tutorial_compiles_an_int4_network(capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(scripts()[0], "tutorial", "exec"), {"__name__": "tutorial"})
    printed = capsys.readouterr().out
    assert printed.count("rms.norm f32_rms_norm__") == 2
    assert "_i4" in printed


def test_a_function_instead_of_an_op(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uqfc.elementary.UNARY", UNARY)  # restores nothing but names the table
    namespace: dict[str, Any] = {"__name__": "tutorial"}
    try:
        exec(compile(scripts()[1], "tutorial", "exec"), namespace)
        x = np.linspace(-2, 2, 33, dtype=np.float32)
        want = np.maximum(x, np.float32(0)) ** 2
        np.testing.assert_array_equal(evaluate("squared_relu", x), want)
    finally:
        UNARY.pop("squared_relu", None)
