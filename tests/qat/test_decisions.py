"""Which weight type each layer has, and why."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from tests.qat.tiny import images, model  # noqa: E402 # after the skip
from uqfc.dialects.quant.decisions import Decision, Reason  # noqa: E402
from uqfc.errors import FallbackError  # noqa: E402

GIVEN: dict[str, Any] = {
    "backend": "edge_device_v2",
    "config": {"layers": {"0": {"weight_dtype": "int8"}, "8": {"weight_dtype": "float32"}}},
    "example_inputs": images()[0],
}


def test_a_target_without_the_type() -> None:
    qat_model = model(weight_dtype="int4", **GIVEN)
    lacking = Decision("int4", "int8", Reason.UNSUPPORTED_BY_TARGET)
    assert qat_model.decisions == {
        "0": Decision("int8", "int8", Reason.REQUESTED),
        "3": lacking,
        "8": Decision("float32", "float32", Reason.REQUESTED),
    }
    assert qat_model.fallbacks == {"3": lacking}
    later: dict[str, Any] = {**GIVEN, "example_inputs": None}
    other = model(weight_dtype="int4", **later)
    other.load_state_dict(qat_model.state_dict())
    assert other.decisions == qat_model.decisions


def test_strict() -> None:
    message = r"edge_device_v2: 1 fallback\(s\)\n  3: requested int4, got int8 \(unsup"
    with pytest.raises(FallbackError, match=message):
        model(weight_dtype="int4", strict=True, **GIVEN)
    assert model(weight_dtype="int8", strict=True, **GIVEN).fallbacks == {}


def test_uqfc_does_not_import_torch() -> None:
    code = """
import sys, uqfc
assert "torch" not in sys.modules
assert uqfc.finetune.__module__ == "uqfc.qat.finetune"
assert uqfc.prepare_qat.__module__ == "uqfc.qat.prepare"
assert "torch" in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_torch_the_message_says_what_to_install() -> None:
    code = """
import sys, uqfc
sys.modules["torch"] = None
try:
    uqfc.finetune
except ImportError as error:
    assert "uqfc.finetune needs PyTorch: pip install 'uqfc[qat]'" in str(error), error
else:
    raise AssertionError
"""
    subprocess.run([sys.executable, "-c", code], check=True)
