"""Every message of every verifier: one op that gives it, and a check that none was forgotten."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from xdsl.utils.exceptions import ParseError, VerifyException

import uqfc.dialects
from tests.dialects import invalid_nn, invalid_quantized
from tests.dialects.invalid import Invalid, verify_text
from uqfc.dialects.nn import fn
from uqfc.dialects.quant import QuantParams, UniformType
from uqfc.dialects.tensors import element_type

CASES = [*invalid_nn.CASES, *invalid_quantized.CASES]

UNPARSED: list[tuple[str, Callable[[], object]]] = [
    ("function 'clip' has a non-finite parameter", lambda: fn("clip", 0.0, np.inf)),
    ("dtype complex64 has no element type", lambda: element_type(np.dtype(np.complex64))),
    (
        "there must be as many zero points as scales, and at least one",
        lambda: UniformType(QuantParams("u8", 0, 255, (0.5, 0.5), (0,), 0)),
    ),
    (
        "a per-tensor type has exactly one scale",
        lambda: UniformType(QuantParams("u8", 0, 255, (0.5, 0.5), (0, 0))),
    ),
    (
        "unknown storage type 'u3'; known: u8, ",
        lambda: UniformType(QuantParams("u3", 0, 7, (0.5,), (0,))),
    ),
]
"""What text cannot say: the parser refuses it first."""


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.message[:60])
def test_refused(case: Invalid) -> None:
    with pytest.raises((VerifyException, ParseError), match=re.escape(case.message)):
        verify_text(case.text)


@pytest.mark.parametrize(("message", "make"), UNPARSED, ids=[m[:60] for m, _ in UNPARSED])
def test_refused_in_python(message: str, make: Callable[[], object]) -> None:
    with pytest.raises(VerifyException, match=re.escape(message)):
        make()


def message_pattern(node: ast.expr) -> str:
    """A regular expression for what a string expression can give."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.escape(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(message_pattern(part) for part in node.values)
    return ".*"


def messages() -> Iterator[tuple[str, str]]:
    """(place, pattern) of each ``raise VerifyException(…)`` of the dialects."""
    folder = Path(str(uqfc.dialects.__file__)).parent
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Raise) or not isinstance(node.exc, ast.Call):
                continue
            if ast.unparse(node.exc.func) == "VerifyException":
                place = f"{path.relative_to(folder)}:{node.lineno}"
                yield place, message_pattern(node.exc.args[0])


def test_every_message_is_tested() -> None:
    tested = [case.message for case in CASES] + [message for message, _ in UNPARSED]
    starts = re.compile(r"known: .*$")
    forgotten = [
        f"{place}: {pattern}"
        for place, pattern in messages()
        if not any(re.match(starts.sub("", pattern), message) for message in tested)
    ]
    assert not forgotten, "\n".join(forgotten)
