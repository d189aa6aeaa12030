"""A document beside a float model, in the article's spelling."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

import uqfc
from tests.onnx_models import IMAGE, perceptron, residual_network, samples
from uqfc.cli import main
from uqfc.errors import UqrError
from uqfc.frontend import read_onnx
from uqfc.frontend.uqr import Document, apply_uqr
from uqfc.numerics import dequantize, quantize

SYMMETRIC: dict[str, Any] = {"dtype": "int8", "symmetric": True, "granularity": "tensor"}
REAL = SYMMETRIC | {"range": [-3.2, 3.175]}


def document() -> dict[str, Any]:
    stem = {
        "dtype": "int4",
        "symmetric": False,
        "granularity": "channel",
        "scale": [0.06] * 8,
        "zero_point": [8, 7] * 4,
        "range": [0, 15],
    }
    depthwise = {"dtype": "ternary", "symmetric": True, "granularity": "tensor", "scale": [0.4]}
    head = {"dtype": "int8", "symmetric": True, "granularity": "channel", "scale": [0.01] * 5}
    return {
        "uqr": "1.0",
        "ops": [
            {
                "name": "image",
                "op": "Input",
                "activation_quant": SYMMETRIC | {"range": [-3.2, 3.175]},
            },
            {
                "name": "stem",
                "op": "Conv_2d",
                "weight_quant": stem,
                "activation_quant": SYMMETRIC | {"symmetric": False, "range": [0.0, 5.1]},
            },
            {
                "name": "depthwise",
                "op": "Conv_2d",
                "weight_quant": depthwise,
                "activation_quant": SYMMETRIC | {"scale": 0.02, "zero_point": 0},
            },
            {"name": "pointwise", "op": "conv2d", "weight_quant": {"dtype": "float32"}},
            {"name": "head", "op": "linear", "weight_quant": head},
        ],
    }


def entry(content: dict[str, Any], name: str) -> dict[str, Any]:
    return next(op for op in content["ops"] if op["name"] == name)


def test_scales_and_types_are_those_of_the_document() -> None:
    found = read_onnx(apply_uqr(residual_network(), document())).meaning.document
    assert isinstance(found, Document)
    ops = {op.name: op for op in found.ops}
    image = ops["image.activation/QuantizeLinear"].activation_quant
    assert image is not None
    assert (image.dtype, image.scale, image.zero_point) == ("int8", [float(np.float32(0.025))], [0])
    stem, depthwise = ops["stem"], ops["depthwise"]
    assert stem.weight_quant is not None
    assert stem.weight_quant.dtype == "uint4"
    assert stem.weight_quant.scale == [float(np.float32(0.06))] * 8
    assert stem.activation_quant is not None
    assert stem.activation_quant.zero_point == [-128]
    assert stem.activation_quant.scale == [float(np.float32(0.02))]
    assert depthwise.weight_quant is not None
    assert depthwise.weight_quant.dtype == "ternary"
    assert "pointwise" not in ops


def test_what_it_computes() -> None:
    """The perceptron, whose first layer is quantized, step by step."""
    weight_scale, x_scale, y_scale = 0.02, 0.03, 0.05
    weights = {"dtype": "int8", "symmetric": True, "granularity": "tensor", "scale": weight_scale}
    content = {
        "uqr": "1.0",
        "ops": [
            {
                "name": "x",
                "op": "Input",
                "activation_quant": SYMMETRIC | {"scale": x_scale, "zero_point": 0},
            },
            {
                "name": "first",
                "op": "Gemm",
                "weight_quant": weights,
                "activation_quant": SYMMETRIC | {"scale": y_scale, "zero_point": 0},
            },
        ],
    }
    model = uqfc.compile(perceptron(), uqr=content)
    tensors = {t.name: onnx.numpy_helper.to_array(t) for t in perceptron().graph.initializer}
    (x,) = samples((2, 6), 1)

    def cast(values: Any, scale: float) -> Any:
        s, z = np.asarray(scale, np.float32), np.asarray(0, np.int32)
        return dequantize(quantize(np.asarray(values, np.float32), s, z, -128, 127), s, z)

    inner = cast(x, x_scale).astype(float) @ cast(tensors["w1"], weight_scale).T.astype(float)
    hidden = cast(np.maximum(inner + tensors["b1"], 0), y_scale)
    expected = hidden @ tensors["w2"].T + tensors["b2"]
    # float32 sums of 4 products of magnitude below 2: 2**-20 is more than all their roundings
    np.testing.assert_allclose(model.run({"x": x})["y"], expected, atol=2.0**-20 * 8)


def test_it_is_a_model_like_any_other(tmp_path: Path) -> None:
    path, source = tmp_path / "quant.json", tmp_path / "net.onnx"
    path.write_text(json.dumps(document()))
    onnx.save(residual_network(), source)
    model = uqfc.compile(source, uqr=path)
    chosen = {layer.name: layer.chosen for layer in model.layers if layer.weight_dtype}
    floats = dict.fromkeys(("pointwise", "head"), "float32")  # nothing quantizes the head's input
    assert chosen == {"stem": "int4", "depthwise": "ternary"} | floats
    session = ort.InferenceSession(model.uqr(), providers=["CPUExecutionProvider"])
    for x in samples(IMAGE):
        (expected,) = session.run(None, {"image": x})
        assert np.argmax(model.run({"image": x})["logits"]) == np.argmax(np.asarray(expected))
    arguments = ["compile", source, "-o", tmp_path / "net.so", "--uqr", path]
    assert main([str(a) for a in arguments]) == 0


def change(name: str, part: str, **fields: Any) -> Callable[[dict[str, Any]], object]:
    return lambda content: entry(content, name)[part].update(fields)


W, A = "weight_quant", "activation_quant"
BAD: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "name": (
        lambda c: entry(c, "stem").update(name="trunk"),
        r"op 'trunk': name: model has no node of this name",
    ),
    "twice": (lambda c: c["ops"].append(entry(c, "stem")), r"op 'stem': name: is described twice"),
    "op": (
        lambda c: entry(c, "stem").update(op="linear"),
        r"op 'stem': op: 'Gemm', but the node is a Conv",
    ),
    "number of scales": (
        change("stem", W, scale=[0.5]),
        r"op 'stem': weight_quant.scale: 1 values; accepted: 8",
    ),
    "number of zero points": (
        change("stem", W, zero_point=[8]),
        r"op 'stem': weight_quant.zero_point: 1 values; accepted: 8",
    ),
    "zero point": (
        change("stem", W, zero_point=[16] * 8),
        r"op 'stem': weight_quant.zero_point: 16; accepted: integers from 0 to 15",
    ),
    "no scale": (
        lambda c: entry(c, "stem")[W].pop("scale"),
        r"op 'stem': weight_quant.scale: is missing",
    ),
    "no zero point": (
        lambda c: entry(c, "stem")[W].pop("zero_point"),
        r"op 'stem': weight_quant.zero_point: is missing",
    ),
    "symmetric": (change("stem", W, symmetric=True), r"weight_quant.symmetric: True, but"),
    "range": (
        change("stem", W, range=[-1, 15]),
        r"weight_quant.range: \[-1, 15\]; accepted: ascending integers within \[-8, 7\] or",
    ),
    "real range": (
        change("image", A, range=[1.0, 2.0]),
        r"op 'image': activation_quant.range: \[1.0, 2.0\]; accepted: two numbers around 0",
    ),
    "no range": (
        lambda c: entry(c, "image")[A].pop("range"),
        r"activation_quant.scale: is missing, and so is range",
    ),
    "blocks": (
        change("stem", W, granularity="block"),
        r"weight_quant.granularity: 'per_block'; accepted: 'per_channel', 'per_tensor'",
    ),
    "channels of activations": (
        change("stem", A, granularity="channel"),
        r"activation_quant.granularity: 'per_channel'; accepted: 'per_tensor'",
    ),
    "tensor": (change("stem", W, tensor="w"), r"weight_quant.tensor: has no meaning beside"),
    "fp8": (change("stem", W, dtype="fp8_e4m3"), r"weight_quant.dtype: 'fp8_e4m3'; accepted: int8"),
    "weights of an input": (
        lambda c: entry(c, "image").update(weight_quant=entry(c, "head")[W]),
        r"op 'image': weight_quant: accepted: ops with constant weights: Conv, Gemm, MatMul",
    ),
    "nothing": (lambda c: c.update(ops=[]), r"ops: quantize nothing; accepted: at least one"),
}


@pytest.mark.parametrize("kind", BAD)
def test_is_refused(kind: str) -> None:
    alter, message = BAD[kind]
    content = json.loads(json.dumps(document()))
    alter(content)
    with pytest.raises(UqrError, match=message):
        apply_uqr(residual_network(), content)


def test_files_that_are_no_documents(tmp_path: Path) -> None:
    with pytest.raises(UqrError, match=r"nothing\.json: cannot be read"):
        apply_uqr(residual_network(), tmp_path / "nothing.json")
    path = tmp_path / "quant.json"
    path.write_text('{"uqr": ')
    with pytest.raises(UqrError, match=r"quant\.json: not JSON, or truncated"):
        apply_uqr(residual_network(), path)
