"""From training to a file to a device: the same bits, and the article's snippets as written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")

import uqfc as cann  # noqa: E402 - torch first
from tests.qat.tiny import images, loader, network  # noqa: E402
from uqfc.errors import UqfcError  # noqa: E402
from uqfc.model import CompiledModel  # noqa: E402
from uqfc.targets import load_target, missing_cpu_features  # noqa: E402

TARGETS = ("avx512-vnni", "avx-vnni", "x86-64-v3", "x86-64")
DTYPES = ("int8", "int4", "ternary", "binary")


def outputs(model: CompiledModel, x: Any) -> np.ndarray:
    """Of each image on its own."""
    (name,) = (tensor["name"] for tensor in model.info["inputs"])
    return np.concatenate([*(next(iter(model.run({name: x[i : i + 1].numpy()}).values()))
                             for i in range(len(x)))])  # fmt: skip


def evaluated(qat_model: Any, x: Any) -> np.ndarray:
    qat_model.eval()
    with torch.no_grad():
        return qat_model(x).numpy()


def test_the_snippets_of_the_article(tmp_path: Path) -> None:
    """``backend="target_device"``, a plain loop, two epochs, a file, two modelled devices."""
    fp32_model, train_loader = network(), loader()
    qat_model = cann.prepare_qat(
        fp32_model, weight_dtype="int4", activation_dtype="int8", backend="target_device"
    )
    optimizer = torch.optim.SGD(qat_model.parameters(), lr=0.01)
    for x, y in train_loader:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(qat_model(x), y).backward()
        optimizer.step()
    cann.finetune(qat_model, train_loader, epochs=2, progress=False)
    path = str(tmp_path / "mbv3_int4.cann")
    cann.export(qat_model, path)
    edge_model = cann.compile(path, target="kirkwood_npu")
    compiled_model = cann.compile(
        qat_model, target="edge_device_v2", quant_strategy="mixed_int4_int8"
    )
    config = {
        "weight_quant": {"symmetric": False, "granularity": "channel"},
        "activation_quant": {"symmetric": True, "granularity": "tensor"},
    }
    x, _ = images(8, seed=3)
    symmetric = cann.prepare_qat(fp32_model, config=config, example_inputs=x)
    wanted = evaluated(qat_model, x)
    assert np.array_equal(outputs(edge_model, x), wanted)
    assert np.array_equal(outputs(compiled_model, x), wanted)
    decisions = {(layer.requested, layer.chosen) for layer in compiled_model.layers}
    assert ("int4", "int8") in decisions
    assert ("int4", "int4") not in decisions
    assert symmetric.plan.points
    onnx.checker.check_model(path, full_check=True)


@pytest.mark.parametrize("dtype", DTYPES)
def test_bits_of_every_type_on_every_target(dtype: str, tmp_path: Path) -> None:
    x, _ = images(16)
    qat_model = cann.prepare_qat(network(1), weight_dtype=dtype, example_inputs=x)
    qat_model.train()
    qat_model(x).square().mean().backward()
    torch.optim.SGD(qat_model.parameters(), lr=0.05).step()
    wanted = evaluated(qat_model, x)
    path = tmp_path / "model.uqr.onnx"
    cann.export(qat_model, path)
    ran = 0
    for target in TARGETS:
        if missing_cpu_features(load_target(target)):
            continue
        compiled = cann.compile(path, target=target)
        assert np.array_equal(outputs(compiled, x), wanted), target
        ran += 1
    assert ran


def test_a_float_network_and_an_untouched_one(tmp_path: Path) -> None:
    """Layers that stay float32 are exported as they are; nothing is exported before a capture."""
    x, _ = images(4)
    config = {"layers": {"8": {"weight_dtype": "float32"}}}
    qat_model = cann.prepare_qat(network(), config=config, example_inputs=x)
    path = tmp_path / "partly.cann"
    cann.export(qat_model, path)
    assert np.array_equal(outputs(cann.compile(path), x), evaluated(qat_model, x))
    with pytest.raises(UqfcError, match="example_inputs"):
        cann.export(cann.prepare_qat(network()), tmp_path / "none.cann")
    assert not (tmp_path / "none.cann").exists()


def test_what_cannot_be_exported(tmp_path: Path) -> None:
    with pytest.raises(UqfcError, match="takes a model of prepare_qat, got Sequential"):
        cann.export(network(), tmp_path / "float.cann")  # pyright: ignore[reportArgumentType]
    x, _ = images(4)
    qat_model = cann.prepare_qat(network(), example_inputs=x)
    with pytest.raises(UqfcError, match="cannot be written"):
        cann.export(qat_model, tmp_path / "no" / "such" / "place.cann")
