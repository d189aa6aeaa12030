"""Whole networks, from ONNX to native code: near ONNX Runtime's results, and exactly our own.

The onnx package's "light" models run with random weights (see ``light_weights``), torchvision's
with random weights and measured statistics, the PP-OCR classifier with its trained ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

import uqfc
from tests.codegen import amx
from tests.models import catalog
from tests.models.networks import NETWORKS, network
from uqfc.model import CompiledModel, build
from uqfc.targets import load_target, missing_cpu_features

pytestmark = pytest.mark.models

TARGETS = ("avx512-amx", "avx512-vnni", "x86-64-v3", "x86-64")
FLOAT_TOLERANCE = 1e-4
"""Largest difference over the largest result; sums are added in another order than the peer's."""
INT8_COSINE = 0.99
LIGHT = [name for name in NETWORKS if name.startswith("light_")]


@pytest.fixture(autouse=True, scope="module")
def emulated_amx() -> Iterator[None]:
    with amx.emulated():
        yield


def runnable_targets() -> list[str]:
    """Those of ``TARGETS`` that this machine runs, the best first."""
    return [name for name in TARGETS if not missing_cpu_features(load_target(name))]


def only(results: dict[str, NDArray[Any]]) -> NDArray[Any]:
    (result,) = results.values()
    return result


def relative_error(actual: NDArray[Any], expected: NDArray[Any]) -> float:
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


def cosine(a: NDArray[Any], b: NDArray[Any]) -> float:
    a, b = a.ravel().astype(np.float64), b.ravel().astype(np.float64)
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def for_target(compiled: CompiledModel, target: str, strategy: str) -> CompiledModel:
    """The same network, already quantized, for another target."""
    table = load_target(target)
    return build(compiled.network.clone(), table, target, compiled.info["name"], strategy)


@pytest.mark.parametrize("target", TARGETS)
def test_the_other_tests_cover_this_target(target: str) -> None:
    """They run on every target that this CPU can run; skipped here, visibly, for each it cannot."""
    if target not in runnable_targets():
        missing = ", ".join(missing_cpu_features(load_target(target)))
        pytest.skip(f"nothing ran for {target}: this CPU lacks {missing}")


@pytest.mark.parametrize("name", LIGHT)
def test_light_models_give_the_outputs_stored_beside_them(name: str) -> None:
    path = catalog.light_models()[name.removeprefix("light_")]
    stored = onnx.TensorProto()
    stored.ParseFromString(path.with_name(f"{path.stem}_output_0.pb").read_bytes())
    compiled = uqfc.compile(path, quant_strategy="float32")
    result = only(compiled.run({compiled.info["inputs"][0]["name"]: catalog.light_input()}))
    assert relative_error(result, numpy_helper.to_array(stored)) <= FLOAT_TOLERANCE


@pytest.mark.parametrize("name", NETWORKS)
def test_float32_is_near_onnx_runtime(name: str) -> None:
    net = network(name)
    compiled = uqfc.compile(net.model, quant_strategy="float32", shapes=net.shapes)
    assert relative_error(only(compiled.run(net.x)), net.expected) <= FLOAT_TOLERANCE


LONG = {("light_vgg19", "int8"), ("light_zfnet512", "int8")}
"""Their kernels are those of other networks, and their INT4 forms are always tested."""


@pytest.mark.parametrize(
    ("name", "strategy"),
    [
        pytest.param(name, strategy, marks=[pytest.mark.slow] * ((name, strategy) in LONG))
        for name in NETWORKS
        for strategy in ("int8", "int4")
    ],
)
def test_quantized(name: str, strategy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every target gives the interpreter's bits; in INT8 they are near the float network's.

    Calibrated, quantized and interpreted once: what differs between targets is only the kernels.
    Weights of the light models, which have up to 144 million, are rounded to nearest in the range
    that they have: what the other networks get, adaptive rounding and a search of ranges, would
    take most of the time of all these tests, and changes no kernel.
    """
    net = network(name)
    if name in LIGHT:
        monkeypatch.setattr("uqfc.calibrate.MOST_GRAM_ELEMENTS", 0)
    best, *others = runnable_targets()
    compiled = uqfc.compile(
        net.model,
        target=best,
        quant_strategy=strategy,
        calibration_data=net.calibration,
        weight_quant={"ranges": "minmax"} if name in LIGHT else None,
        shapes=net.shapes,
    )
    reference = only(compiled.reference(net.x))
    if strategy == "int8":
        assert cosine(reference, net.expected) >= INT8_COSINE
    differ = [
        target
        for target, model in (
            (best, compiled),
            *((t, for_target(compiled, t, strategy)) for t in others),
        )
        if only(model.run(net.x)).tobytes() != reference.tobytes()
    ]
    assert differ == []
