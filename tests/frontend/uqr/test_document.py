"""The document: canonical text, schema, and what is written for a network."""

from __future__ import annotations

import json
from importlib import resources

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.frontend.uqr.models import FIRST, INPUT, document, entry, model, module, text
from uqfc.dialects.quant.decisions import decision_of
from uqfc.errors import UqrError
from uqfc.frontend import read_onnx
from uqfc.frontend.uqr import Document, write_uqr
from uqfc.frontend.uqr.document import schema_text, shortest
from uqfc.frontend.uqr.text import dump_document, parse_document


def test_the_published_schema_is_that_of_the_models() -> None:
    published = resources.files("uqfc.frontend.uqr").joinpath("schema.json").read_text("utf-8")
    assert published == schema_text(), "run `python -m uqfc.frontend.uqr`"


def test_the_canonical_text_reads_back_as_itself() -> None:
    written = text(model())
    assert dump_document(parse_document(written, "uqr")) == written


@given(st.floats(width=32, min_value=0, exclude_min=True, allow_infinity=False))
def test_scales_are_the_shortest_decimals(scale: float) -> None:
    written = json.dumps(shortest(scale))
    assert np.float32(float(written)) == np.float32(scale)
    assert float(written) == float(str(np.float32(scale)))


def test_what_is_written() -> None:
    content = document("int4")
    assert content["numerics"] == {
        "rounding": "half_even",
        "requantize": "float32_multiplier",
        "accumulator": "int32",
    }
    conv = entry(content, FIRST)
    assert conv["op"] == "Conv"
    weights = conv["weight_quant"]
    assert (weights["dtype"], weights["range"]) == ("uint4", [0, 15])
    assert (weights["granularity"], weights["axis"]) == ("per_channel", 0)
    assert len(weights["scale"]) == len(weights["zero_point"]) == 3
    activation = conv["activation_quant"]
    assert (activation["dtype"], activation["integer_range"]) == ("uint8", [0, 255])
    low, high = activation["range"]
    assert low <= 0 <= high
    assert conv["decision"] == {"requested": "int4", "chosen": "int4", "reason": "requested"}
    assert entry(content, INPUT)["op"] == "QuantizeLinear"


@pytest.mark.parametrize("strategy", ["int8", "int4", "ternary", "binary", "mixed_int4_int8"])
def test_what_onnx_cannot_say_comes_back(strategy: str) -> None:
    weights = entry(document(strategy), FIRST)["weight_quant"]
    dtypes = {"int4": "uint4", "mixed_int4_int8": "uint4"}
    assert weights["dtype"] == dtypes.get(strategy, strategy)
    ranges = {"int8": [-127, 127], "ternary": [-1, 1], "binary": [-1, 1]}
    assert weights["range"] == ranges.get(strategy, [0, 15])
    expected = [decision_of(op) for op in module(strategy).walk() if decision_of(op)]
    read = read_onnx(model(strategy)).convert()
    assert [decision_of(op) for op in read.walk() if decision_of(op)] == expected


def test_calibration_and_provenance() -> None:
    calibration = {"method": "mse", "samples": 3, "data_sha256": "0" * 64}
    data = write_uqr(module(), calibration=calibration, provenance={"qat": {"epochs": 2}})
    content = json.loads(text(data))
    assert content["calibration"] == calibration
    assert content["provenance"]["qat"] == {"epochs": 2}
    assert content["provenance"]["producer"].startswith("uqfc ")
    assert entry(content, FIRST)["activation_quant"]["calibration_method"] == "mse"
    found = read_onnx(data).meaning.document
    assert isinstance(found, Document)
    assert found.calibration is not None
    assert found.calibration.samples == 3


def test_calibration_that_does_not_fit() -> None:
    with pytest.raises(UqrError, match=r"calibration.samples: -1"):
        write_uqr(module(), calibration={"samples": -1})
