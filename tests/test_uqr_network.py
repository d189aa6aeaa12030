"""The trained network of examples/fashion_mnist as a UQR file."""

from __future__ import annotations

import importlib.util
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

import uqfc
from tests.frontend.uqr.test_round_trip import layers_of
from tests.networks import run
from tests.passes.graphs import same_bits
from uqfc.dialects.tensors import Array
from uqfc.frontend import read_onnx
from uqfc.interpreter import Interpreter
from uqfc.pipeline import graph_passes, integer_passes

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "fashion_mnist"
CALIBRATION, IMAGES = 64, 1000
LEAST_AGREEMENT = 0.995
"""Share of images with the same largest output: ONNX Runtime sums float32, uqfc integers."""


def images(name: str, count: int) -> Array:
    """float32 [count, 1, 3, 64, 64], preprocessed as the network was trained."""
    spec = importlib.util.spec_from_file_location("fashion_mnist_data", EXAMPLE / "data.py")
    assert spec is not None
    assert spec.loader is not None
    data: Any = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = data
    spec.loader.exec_module(data)
    with np.load(EXAMPLE / name) as file:
        return data.preprocess(file["images"][:count])[:, None]


@cache
def compiled() -> uqfc.CompiledModel:
    samples = [{"image": image} for image in images("calibration_images.npz", CALIBRATION)]
    path = EXAMPLE / "mobilenet_v3_small.onnx"
    return uqfc.compile(path, quant_strategy="int4", calibration_data=samples)


def test_the_integer_network_is_the_same() -> None:
    data = compiled().uqr()
    onnx.checker.check_model(onnx.load_from_string(data), full_check=True)
    again = run(read_onnx(data).convert(), *graph_passes(), *integer_passes())
    expected = layers_of(compiled().network)
    assert len(expected) > 50
    assert layers_of(again) == expected
    inputs = {"image": images("test_images.npz", 1)[0]}
    outputs = [Interpreter().run(m, inputs)["logits"] for m in (compiled().network, again)]
    assert same_bits(*outputs)


def test_onnxruntime_agrees() -> None:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(compiled().uqr(), options, providers=["CPUExecutionProvider"])
    model, same = compiled(), 0
    for image in images("test_images.npz", IMAGES):
        (expected,) = session.run(None, {"image": image})
        same += int(
            np.argmax(model.run({"image": image})["logits"]) == np.argmax(np.asarray(expected))
        )
    assert same / IMAGES >= LEAST_AGREEMENT
