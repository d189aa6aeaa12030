"""The central law: what training computes is, in every bit, what is deployed."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

torch = pytest.importorskip("torch")

from tests.qat.test_kernels import HERE  # noqa: E402 - torch first
from tests.qat.torch_networks import (  # noqa: E402
    Branches,
    Case,
    Residual,
    SqueezeExcite,
    cases,
    with_statistics,
)
from uqfc.model import build  # noqa: E402
from uqfc.pipeline import integer_passes, run_passes  # noqa: E402
from uqfc.qat.comparison import compare, interpreted  # noqa: E402
from uqfc.qat.model import QatModel  # noqa: E402
from uqfc.qat.prepare import prepare_qat  # noqa: E402
from uqfc.qat.training import Mode  # noqa: E402
from uqfc.targets import load_target  # noqa: E402

nn = torch.nn


def prepared(case: Case, **others: Any) -> QatModel:
    return prepare_qat(case.module, **case.options, example_inputs=case.x, **others).eval()


def bits(tensor: Any) -> Any:
    return tensor.detach().contiguous().view(torch.int32)


def assert_same(found: Any, wanted: Any, what: str) -> None:
    differing = int((bits(found) != bits(wanted)).sum())
    assert found.shape == wanted.shape
    assert not differing, f"{what}: {differing} of {found.numel()} elements differ"


def inputs_of(case: Case, batch: int, seed: int) -> Any:
    """Twice as large as what was calibrated: some saturate."""
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn((batch, *case.x.shape[1:]), generator=generator)


@settings(max_examples=12)
@given(cases(), st.sampled_from([1, 3]), st.integers(0, 99))
def test_training_has_the_bits_of_the_definition(case: Case, batch: int, seed: int) -> None:
    """With gradients and without, on integer-valued floats and interpreted."""
    model, x = prepared(case, kernels=False), inputs_of(case, batch, seed)
    comparison = model.compare(x)
    assert comparison.is_equal, f"{comparison}\n{model.plan.module}"
    trained = model(x)
    assert trained.requires_grad
    with torch.no_grad():
        assert_same(trained, model(x), "integer-valued floats")


@pytest.mark.skipif(not HERE, reason="no kernels for this machine")
@settings(max_examples=3)
@given(cases(), st.sampled_from([1, 3]), st.integers(0, 99))
def test_training_has_the_bits_of_compiled_networks(case: Case, batch: int, seed: int) -> None:
    """With gradients and without, run in batches, and built for each target of this machine."""
    model, x = prepared(case), inputs_of(case, batch, seed)
    assert model.uses_kernels
    with torch.no_grad():
        deployed = model(x)
    assert_same(model(x), deployed, str(model.compare(x)))
    for target in HERE:
        module = model.quantized_module()
        run_passes(module, integer_passes())
        compiled = build(module, load_target(target), target, "test", "qat")
        rows = [np.asarray(compiled(image[None].numpy())) for image in x]
        assert_same(torch.from_numpy(np.concatenate(rows)), deployed, target)


def everything() -> Case:
    """Blocks of all kinds behind one another."""
    torch.manual_seed(1)
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1, bias=False),
        nn.BatchNorm2d(8),
        nn.Hardswish(),
        nn.Conv2d(8, 8, 3, 1, 1, groups=8),
        nn.BatchNorm2d(8),
        nn.ReLU6(),
        SqueezeExcite(8, nn.Hardsigmoid()),
        Residual(nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)), nn.ReLU()),
        Branches([nn.Sequential(nn.Conv2d(8, 4, 1), nn.LeakyReLU(0.1), nn.SiLU())]),
        nn.AvgPool2d(3, 1, padding=1, count_include_pad=False),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(12, 5),
        nn.GELU(),
        nn.Linear(5, 3),
        nn.Softmax(1),
    )
    with_statistics(module, 1)
    return Case(module.eval(), torch.randn(8, 3, 8, 8), {})


@pytest.mark.parametrize("activation", ["int8", "int4"])
@pytest.mark.parametrize("weight", ["int8", "int4", "ternary", "binary"])
def test_every_type_in_one_network(weight: str, activation: str) -> None:
    case = everything()
    types = {"weight_dtype": weight, "activation_dtype": activation}
    model = prepared(replace(case, options=types), kernels=False)
    x = inputs_of(case, 3, 5)
    comparison = model.compare(x)
    assert comparison.is_equal, str(comparison)
    assert len(model.plan.layers) == 8
    with torch.no_grad():
        assert_same(model(x), model.pass_of(Mode.DEPLOYED).run([x])[0], "integer-valued floats")


def test_a_difference_is_found_where_it_begins() -> None:
    """With other weights in one layer than those that are deployed."""
    case = everything()
    model, x = prepared(case, kernels=False), inputs_of(case, 2, 5)
    forward, module = model.pass_of(Mode.DEPLOYED), model.quantized_module()
    with torch.no_grad():
        model.get_parameter("model.7.body.0.weight").add_(0.5)
    comparison = compare(forward, module, [x], interpreted)
    assert not comparison.is_equal
    assert comparison.first is not None
    assert comparison.first.layer == "7.body.0"
    assert "layer '7.body.0' (nn.conv2d" in str(comparison)
    shown = Console(width=200, record=True, file=StringIO())
    shown.print(comparison)
    assert "7.body.0" in shown.export_text()
