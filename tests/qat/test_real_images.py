"""1,000 real images: evaluation in training, the exported file on every target, ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import uqfc  # noqa: E402 - torch first
from tests.qat.test_exporting import outputs  # noqa: E402
from uqfc.targets import load_target, missing_cpu_features  # noqa: E402

EXAMPLE = Path(__file__).parents[2] / "examples" / "fashion_mnist"
TARGETS = ("avx512-vnni", "x86-64-v3", "x86-64")
MIXED = {"layers": {"blocks.[0-4].*": {"weight_dtype": "int8"}}}
TYPES: dict[str, dict[str, Any]] = {
    "int8": {"weight_dtype": "int8"},
    "int4": {"weight_dtype": "int4"},
    "mixed": {"weight_dtype": "int4", "config": MIXED},
    "int4_int4": {"weight_dtype": "int4", "activation_dtype": "int4"},
    "ternary": {"weight_dtype": "ternary"},
    "binary": {"weight_dtype": "binary"},
}
SLOW = [
    pytest.param(kind, marks=[] if kind == "int4" else pytest.mark.slow, id=kind) for kind in TYPES
]


def example_data(name: str) -> Any:
    """Images of the example, float32 [N, 3, 64, 64]."""
    data = pytest.importorskip("data")  # of the example, which pytest finds by its path
    images = np.load(EXAMPLE / name)["images"]
    return torch.from_numpy(data.preprocess(images))


def example_network() -> Any:
    """The trained float network."""
    return pytest.importorskip("qat").float_model()


@pytest.mark.parametrize("kind", SLOW)
def test_every_bit_on_every_target(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLE))
    calibration = example_data("calibration_images.npz")
    qat_model = uqfc.prepare_qat(
        example_network(), calibration_data=[calibration[:128]], **TYPES[kind]
    )
    qat_model.train()
    qat_model(calibration[:32]).square().mean().backward()
    torch.optim.SGD(qat_model.parameters(), lr=1e-3).step()
    qat_model.eval()
    images = example_data("test_images.npz")
    with torch.no_grad():
        wanted = qat_model(images).numpy()
    path = tmp_path / "trained.cann"
    uqfc.export(qat_model, path)
    ran: list[str] = []
    for target in TARGETS:
        if missing_cpu_features(load_target(target)):
            continue
        found = outputs(uqfc.compile(path, target=target), images)
        different = int((found != wanted).any(axis=1).sum())
        assert not different, f"{target}: {different} images; {qat_model.compare(images[:1])}"
        ran.append(target)
    assert "x86-64" in ran


def test_onnx_runtime_agrees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is a QDQ model, which ONNX Runtime computes in floats and roundings of its own."""
    runtime = pytest.importorskip("onnxruntime")
    monkeypatch.syspath_prepend(str(EXAMPLE))
    calibration = example_data("calibration_images.npz")
    qat_model = uqfc.prepare_qat(example_network(), calibration_data=[calibration[:128]]).eval()
    path = tmp_path / "trained.uqr.onnx"
    uqfc.export(qat_model, path)
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (name,) = (each.name for each in session.get_inputs())
    images = example_data("test_images.npz")
    theirs = [session.run(None, {name: images[i : i + 1].numpy()})[0] for i in range(len(images))]
    with torch.no_grad():
        ours = qat_model(images).argmax(1).numpy()
    agreement = float((np.concatenate(theirs).argmax(1) == ours).mean())
    assert agreement >= 0.995
