"""QDQ models with ONNX's 8-bit floats, made by hand."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import uqfc
from tests.passes.graphs import same_bits
from uqfc.errors import UqfcError
from uqfc.float8 import E4M3, encode

FORMS = {"fp8_e4m3": TensorProto.FLOAT8E4M3FN, "fp8_e5m2": TensorProto.FLOAT8E5M2}


def model(
    form: int, codes: bytes = b"", saturate: int = 1, input_type: int = TensorProto.FLOAT
) -> onnx.ModelProto:
    """``y = dq(q(x))``, or with codes [2, 3] of weights ``dq(q(x)) @ dq(codes).T``."""
    constants = [
        numpy_helper.from_array(np.array(0.25, np.float32), "s"),
        TensorProto(name="z", data_type=form, dims=[], raw_data=b"\0"),
    ]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], saturate=saturate),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
    ]
    if codes:
        constants.append(TensorProto(name="w", data_type=form, dims=[2, 3], raw_data=codes))
        nodes.append(helper.make_node("DequantizeLinear", ["w", "s", "z"], ["v"]))
        nodes.append(helper.make_node("Gemm", ["d", "v"], ["y"], "layer", transB=1))
    else:
        nodes[-1].output[0] = "y"
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", input_type, [4, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4, 2 if codes else 3])],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


X = np.array([[0, 1.1, -3], [120, -2e4, 1e-3], [np.inf, -np.inf, 0.3], [7, 8, 9]], np.float32)


@pytest.mark.parametrize("dtype", FORMS)
def test_casts_are_those_of_the_reference(dtype: str) -> None:
    proto = model(FORMS[dtype])
    (expected,) = ReferenceEvaluator(proto).run(None, {"x": X})
    made = uqfc.compile(proto, target="x86-64")
    assert same_bits(np.asarray(expected, np.float32), made.run({"x": X})["y"])


@pytest.mark.parametrize("dtype", FORMS)
def test_a_layer_keeps_its_type(dtype: str) -> None:
    codes = encode(np.array([1, 2, -1, 0.5, 0, 3], np.float32), E4M3).tobytes()
    proto = model(FORMS[dtype], codes)
    made = uqfc.compile(proto, target="x86-64")
    (layer,) = [entry for entry in made.layers if entry.name == "layer"]
    assert (layer.chosen, layer.activation_dtype, layer.reason) == (dtype, dtype, "requested")
    (expected,) = ReferenceEvaluator(proto).run(None, {"x": X[[0, 3]].repeat(2, 0)})
    got = made.run({"x": X[[0, 3]].repeat(2, 0)})["y"]
    # Three products of few bits: their sums are exact in any order.
    assert np.array_equal(np.asarray(expected, np.float32), got)


@pytest.mark.parametrize(
    ("proto", "message"),
    [
        (model(FORMS["fp8_e4m3"], b"\x7f\0\0\0\0\0"), "values that are not finite"),
        (model(FORMS["fp8_e5m2"], b"\x7c\0\0\0\0\0"), "values that are not finite"),
        (model(FORMS["fp8_e4m3"], saturate=0), "saturate = 0: supported is 1"),
        (model(FORMS["fp8_e4m3"], input_type=FORMS["fp8_e4m3"]), "inputs of type float8e4m3fn"),
    ],
    ids=["nan", "inf", "saturate", "input"],
)
def test_refused(proto: onnx.ModelProto, message: str) -> None:
    with pytest.raises(UqfcError, match=message):
        uqfc.compile(proto, target="x86-64")
