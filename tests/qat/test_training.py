"""Training with the statistics of batches, and without."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from tests.qat.test_kernels import HERE  # noqa: E402 - torch first
from tests.qat.torch_networks import Case, cases  # noqa: E402
from uqfc.qat.estimators import Estimator  # noqa: E402
from uqfc.qat.layers import LayerModules, quantized_weight  # noqa: E402
from uqfc.qat.model import QatModel  # noqa: E402
from uqfc.qat.prepare import prepare_qat  # noqa: E402
from uqfc.qat.training import Mode  # noqa: E402

nn = torch.nn
WEIGHTS = ("int8", "int4", "ternary", "binary")


def network(*, bias: bool = False, **norm: Any) -> Any:
    """One convolution with a batch norm, whose result stays float."""
    torch.manual_seed(3)
    model = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1, bias=bias), nn.BatchNorm2d(5, **norm))
    with torch.no_grad():
        for parameter in model[1].parameters():
            parameter.copy_(torch.randn(5))
    return model


def images(seed: int = 0, batch: int = 6) -> Any:
    return torch.randn(batch, 3, 6, 6, generator=torch.Generator().manual_seed(seed))


def prepared(model: Any, x: Any, **options: Any) -> QatModel:
    options = {"kernels": False, **options}
    return prepare_qat(model, example_inputs=x, **options)


def dequantized(model: QatModel) -> tuple[Any, Any]:
    """Of ``network``: its input's scale, and the weight without the factor it was folded with."""
    forward, layer = model.pass_of(Mode.DEPLOYED), model.plan.layers["0"]
    folded = LayerModules(model.model, layer.origin).folded(learned=False)
    scale = forward.schemes[model.plan.point_of(layer).name].scale
    zero_points = model.quantization.weight_zero_point
    scales = forward.weight_scales
    found = quantized_weight(layer, folded, scales, zero_points, scale, Estimator.LSQ)
    assert folded.factor is not None
    return scale, found.real.detach().double() / folded.factor.reshape(-1, 1, 1, 1)


@pytest.mark.parametrize("momentum", [0.1, 0.5, None])
@pytest.mark.parametrize("bias", [False, True])
def test_statistics_are_those_of_the_float_network_of_rounded_weights(
    momentum: float | None, bias: bool
) -> None:
    """Within 2**-16 of values of at most 16: sums of 27 products, exact as integers, are rounded
    with their factor, in the normalisation by some five operations of 2**-24 each; their mean and
    variance over 216 elements by less than 2**-20."""
    x = images()
    model = prepared(network(bias=bias, momentum=momentum), x).train()
    zero = model.quantization.zero_point_of(model.plan.point_of(model.plan.layers["0"]))
    twin = network(bias=bias, momentum=momentum).double().train()
    for _ in range(2):
        scale, weight = dequantized(model)  # folded with the running variance, which changes
        step = scale.detach().double()
        seen = torch.round(x.double() / step).clamp(-zero, 255 - zero) * step
        with torch.no_grad():
            twin[0].weight.copy_(weight.permute(0, 3, 1, 2))
        with torch.no_grad():
            found, wanted = model(x), twin(seen)
        assert float(wanted.abs().max()) < 16
        assert float((found.double() - wanted).abs().max()) < 2.0**-16
    ours: Any = model.model.get_submodule("1")
    assert int(ours.num_batches_tracked) == int(twin[1].num_batches_tracked) == 2
    for a, b in (
        (ours.running_mean, twin[1].running_mean),
        (ours.running_var, twin[1].running_var),
    ):
        assert float((a.double() - b).abs().max()) < 2.0**-16


def losses(model: QatModel, x: Any, y: Any, steps: int, rate: float) -> list[float]:
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    found: list[float] = []
    for _ in range(steps):
        loss = nn.functional.cross_entropy(model(x).flatten(1), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize(("weight", "ste"), list(zip(WEIGHTS, Estimator, strict=True)))
def test_a_few_steps_reduce_the_loss_and_gradients_reach_every_parameter(
    weight: str, ste: str, frozen: bool
) -> None:
    torch.manual_seed(1)
    module = nn.Sequential(
        nn.Conv2d(3, 6, 3),
        nn.BatchNorm2d(6),
        nn.Hardswish(),
        nn.Conv2d(6, 6, 3, groups=6, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(24, 3),
    )
    x = images(1, 12)
    y = torch.arange(12) % 3
    model = prepared(module, x, weight_dtype=weight, ste=ste, learn_scales=True).train()
    model.frozen_statistics = frozen
    found = losses(model, x, y, 8, 0.02)
    assert min(found[4:]) < found[0]
    gradients = {name: p.grad for name, p in model.named_parameters()}
    assert all(g is not None and bool(g.isfinite().all()) for g in gradients.values())
    assert {n for n, g in gradients.items() if g is not None and not g.any()} <= {"model.0.bias"}


@settings(max_examples=3)
@given(cases(), st.integers(0, 99))
def test_frozen_statistics_give_the_deployed_bits(case: Case, seed: int) -> None:
    """Modules with dropout aside, training changes nothing then."""
    model = prepared(case.module, case.x, **case.options)
    model.frozen_statistics = True
    x = torch.randn(2, *case.x.shape[1:], generator=torch.Generator().manual_seed(seed))
    before = [b.clone() for b in model.buffers()]
    trained = model.train()(x)
    assert all(torch.equal(a, b) for a, b in zip(before, model.buffers(), strict=True))
    with torch.no_grad():
        assert torch.equal(trained, model.eval()(x))


@settings(max_examples=2)
@given(cases())
def test_training_with_statistics_reaches_every_layer(case: Case) -> None:
    model = prepared(case.module, case.x, **case.options, ste="identity").train()
    model(case.x).square().sum().backward()
    names = [each.origin.weight for each in model.plan.layers.values()]
    assert all(model.model.get_parameter(name).grad is not None for name in names)


@pytest.mark.skipif(not HERE, reason="no kernels for this machine")
def test_kernels_and_floats_take_the_same_step() -> None:
    """Forward bits are equal, so that losses are; gradients are the same code."""
    x = images(2)
    y = torch.arange(6) % 5
    runs: list[list[float]] = []
    for kernels in (False, True):
        module = nn.Sequential(*network(), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        runs.append(losses(prepared(module, x, kernels=kernels).train(), x, y, 3, 0.1))
    assert runs[0] == runs[1]


def network_of(model: QatModel) -> Any:
    return model.model


def test_what_is_deployed_follows_every_change_of_parameters() -> None:
    """Through ``.data``, too, of which torch keeps no count."""
    x = images()
    model = prepared(network(), x).eval()
    convolution, norm = network_of(model)
    with torch.no_grad():
        before = model(x)
        convolution.weight.data.mul_(0.5)
        halved = model(x)
        assert not torch.equal(before, halved)
        convolution.weight.data = convolution.weight.data * 2
        assert torch.equal(model(x), before)
        norm.running_var.mul_(4.0)
        assert not torch.equal(model(x), before)
        model.quantization.activation_change.add_(0.5)
        assert model.compare(x).is_equal
    made = model.deployed()
    assert model.deployed() is made
