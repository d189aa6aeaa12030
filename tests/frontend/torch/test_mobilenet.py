"""The example's network: its import from PyTorch against its ONNX export."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from xdsl.dialects.builtin import ModuleOp

import uqfc
from uqfc.dialects import nn
from uqfc.errors import UqfcError
from uqfc.frontend import import_onnx
from uqfc.interpreter import Interpreter
from uqfc.pipeline import graph_passes, run_passes

torch = pytest.importorskip("torch")

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "fashion_mnist"
SHAPE = (1, 3, 64, 64)


@pytest.fixture(scope="module")
def mobilenet() -> Any:
    """MobileNetV3-Small with batch statistics of its own."""
    sys.path.insert(0, str(EXAMPLE))
    try:
        from model import MobileNetV3Small
    finally:
        sys.path.remove(str(EXAMPLE))
    torch.manual_seed(0)
    model = MobileNetV3Small()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.8, 1.2)
            torch.nn.init.normal_(module.bias, std=0.1)
        elif getattr(module, "bias", None) is not None:
            torch.nn.init.normal_(module.bias, std=0.1)  # not zeros, which an ONNX file would share
    with torch.no_grad():
        model(torch.randn(8, *SHAPE[1:]))
    return model.eval()


@pytest.fixture(scope="module")
def program(mobilenet: Any) -> Any:
    return torch.export.export(mobilenet, (torch.zeros(SHAPE),))


def structure(module: ModuleOp) -> list[Any]:
    """Name, attributes, operands by the index of what computes them, and types of every op."""
    found: list[Any] = []
    numbers: dict[Any, int] = {}
    (function,) = module.ops
    block = function.regions[0].block
    for value in block.args:
        numbers[value] = len(numbers)
    for op in block.ops:
        attributes = {k: str(v) for k, v in op.properties.items() if k != "value"}
        operands = [numbers[v] for v in op.operands]
        found.append((op.name, attributes, operands, [str(r.type) for r in op.results]))
        for value in op.results:
            numbers[value] = len(numbers)
    return found


def test_the_fused_graph_is_that_of_the_onnx_export(program: Any) -> None:
    from uqfc.frontend.torch import import_torch

    ours = import_torch(program).module
    theirs = import_onnx(EXAMPLE / "mobilenet_v3_small.onnx", {"image": SHAPE})
    for module in (ours, theirs):
        run_passes(module, graph_passes())
    assert structure(ours) == structure(theirs)


def test_every_layer_knows_its_parameters(mobilenet: Any, program: Any) -> None:
    from uqfc.frontend.torch import import_torch

    network = import_torch(program)
    run_passes(network.module, graph_passes())
    layers = [op for op in network.module.walk() if isinstance(op, nn.Conv2dOp | nn.LinearOp)]
    assert {op.layer for op in layers} == set(network.layers)
    assert network.parameters == {}
    named = dict(mobilenet.named_parameters())
    modules = dict(mobilenet.named_modules())
    for name, origin in network.layers.items():
        assert origin.weight == f"{name}.weight"
        assert origin.bias == (f"{name}.bias" if f"{name}.bias" in named else None)
        assert (origin.batch_norm is None) == (origin.bias is not None)
        if origin.batch_norm is not None:
            assert isinstance(modules[origin.batch_norm], torch.nn.BatchNorm2d)


def test_the_results_are_near(mobilenet: Any, program: Any) -> None:
    """Fifty layers deep, a derived bound would say nothing; single blocks have one."""
    from uqfc.frontend.torch import import_torch

    network = import_torch(program)
    images = np.random.default_rng(0).standard_normal(SHAPE, np.float32)
    ours = Interpreter(fast_float=True).run(network.module, {"x": images})["output"]
    with torch.no_grad():
        theirs = mobilenet(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(ours, theirs, atol=1e-3 * float(abs(theirs).max()))


def test_a_program_compiles_as_its_onnx_export_does(mobilenet: Any, tmp_path: Path) -> None:
    """The first blocks' binaries compute the same bits."""
    path = tmp_path / "model.onnx"
    module = torch.nn.Sequential(mobilenet.stem, mobilenet.blocks[:4]).eval()
    example = torch.zeros(SHAPE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's notes on deprecation
        torch.onnx.export(
            module,
            (example,),
            str(path),
            input_names=["input"],
            training=torch.onnx.TrainingMode.PRESERVE,
            dynamo=False,
        )
    images = np.random.default_rng(0).standard_normal((3, *SHAPE[1:]), np.float32)
    data = [{"input": image[None]} for image in images]
    program = torch.export.export(module, (example,))
    models = [uqfc.compile(model, calibration_data=data) for model in (program, path)]
    for sample in data:
        first, second = (list(model.run(sample).values()) for model in models)
        np.testing.assert_array_equal(first[0], second[0])


def test_shapes_of_a_program_are_fixed(program: Any) -> None:
    with pytest.raises(UqfcError, match="are fixed"):
        uqfc.compile(program, quant_strategy="float32", shapes={"x": (2, 3, 64, 64)})
