"""Inputs of bytes: the same bits as for the dequantized input, and no float in between."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xdsl.dialects.builtin import ModuleOp

import uqfc
from tests.networks import integer, named, quantized_networks, run
from tests.onnx_models import IMAGE, perceptron, residual_network, samples
from uqfc import UInt8
from uqfc.cli import main
from uqfc.cli.compile import parse_input_type
from uqfc.dialects.tensors import Array, element_of, shape_of, ui8
from uqfc.errors import UqfcError
from uqfc.interpreter import Interpreter, input_names, main_function
from uqfc.numerics import dequantize
from uqfc.passes.uint8_inputs import Uint8InputsPass

scales = st.floats(2.0**-20, 2.0**10, width=32)
zero_points = st.integers(0, 255)


def reals(q: Array, scale: float, zero_point: int) -> Array:
    return dequantize(
        q.astype(np.int32), np.array(scale, np.float32), np.array(zero_point, np.int32)
    )


@settings(max_examples=25)
@given(module=quantized_networks(), scale=scales, zero_point=zero_points, seed=st.integers(0, 99))
def test_the_law(module: ModuleOp, scale: float, zero_point: int, seed: int) -> None:
    network = named(integer(module))
    function = main_function(network)
    names = input_names(function)
    converted = run(network.clone(), Uint8InputsPass({n: UInt8(scale, zero_point) for n in names}))
    converted.verify()
    random = np.random.default_rng(seed)
    arguments = main_function(converted).body.block.args
    assert all(element_of(a) == ui8 for a in arguments)
    q = {
        n: random.integers(0, 256, shape_of(a), np.uint8)
        for n, a in zip(names, arguments, strict=True)
    }
    floats = {n: reals(x, scale, zero_point) for n, x in q.items()}
    expected, actual = Interpreter().run(network, floats), Interpreter().run(converted, q)
    assert all(np.array_equal(expected[n], actual[n], equal_nan=True) for n in expected)


def compiled(**options: Any) -> uqfc.CompiledModel:
    return uqfc.compile(
        residual_network(), target="x86-64", calibration_data=samples(IMAGE), **options
    )


@pytest.mark.parametrize("kind", ["uint8", UInt8(0.0186, 114)])
@pytest.mark.parametrize("strategy", ["int4", "int8", "float32"])
def test_compiled_networks_take_bytes(strategy: str, kind: str | UInt8) -> None:
    if strategy == "float32" and kind == "uint8":
        pytest.skip("a float32 network does not quantize its input")
    floats = compiled(quant_strategy=strategy)
    own = compiled(quant_strategy=strategy, input_types={"image": kind})
    (described,) = own.info["inputs"]
    assert described["dtype"] == "uint8"
    q = np.random.default_rng(0).integers(0, 256, IMAGE, np.uint8)
    x = reals(q, described["scale"], described["zero_point"])
    expected = floats.run({"image": x})["logits"]
    assert np.array_equal(own.run({"image": q})["logits"], expected)
    assert np.array_equal(own.reference({"image": q})["logits"], expected)
    ops = [layer.op for layer in own.layers]
    if strategy != "float32":
        assert ("qnn.lookup" in ops) == (kind != "uint8")
        assert not any(op in ("qnn.quantize", "nn.cast") for op in ops)


@pytest.mark.parametrize(
    ("types", "message"),
    [
        ({"picture": "uint8"}, "no input 'picture'; the inputs are: image"),
        ({"image": "int8"}, "'int8' is unknown; accepted: uint8"),
        ({"image": UInt8(0.5)}, "give both scale and zero point, or none"),
        ({"image": UInt8(0.0, 3)}, "a finite float32 above 0, and 0 to 255"),
        ({"image": UInt8(1e39, 3)}, "a finite float32 above 0, and 0 to 255"),
        ({"image": UInt8(1.0, 256)}, "a finite float32 above 0, and 0 to 255"),
    ],
)
def test_what_is_refused(types: dict[str, Any], message: str) -> None:
    with pytest.raises(UqfcError) as caught:
        compiled(input_types=types)
    assert message in str(caught.value)


def test_a_network_that_does_not_quantize_its_input_says_so() -> None:
    with pytest.raises(UqfcError, match="'x' is quantized in 0 ways: say what a byte stands for"):
        uqfc.compile(
            perceptron(), target="x86-64", quant_strategy="float32", input_types={"x": "uint8"}
        )


@given(scales, zero_points)
def test_types_parse_back(scale: float, zero_point: int) -> None:
    parsed = parse_input_type(f"a=b=uint8:{scale!r}:{zero_point}")
    assert parsed == ("a=b", UInt8(scale, zero_point))
    assert parse_input_type("x=uint8") == ("x", UInt8())


@pytest.mark.parametrize(
    "text", ["x", "=uint8", "x=int8", "x=uint8:1", "x=uint8:a:1", "x=uint8:1:b"]
)
def test_malformed_types(text: str) -> None:
    with pytest.raises(UqfcError, match="accepted: NAME=uint8, NAME=uint8:SCALE:ZERO_POINT"):
        parse_input_type(text)


def test_the_command(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    onnx.save(residual_network(), tmp_path / "model.onnx")
    np.save(tmp_path / "data.npy", np.concatenate(samples(IMAGE)))
    monkeypatch.chdir(tmp_path)
    arguments = ["compile", "model.onnx", "-o", "model.o", "--target", "x86-64"]
    arguments += ["--calibrate", "data.npy", "--input-type", "image=uint8:0.0186:114"]
    assert main(arguments) == 0
    assert b'"zero_point":114' in (tmp_path / "model.o").read_bytes()
