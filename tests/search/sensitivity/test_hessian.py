"""Hessians of tiny networks: exact ones, those of probes, and the network in torch."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.onnx_models import IMAGE, model, residual_network, samples
from uqfc.calibrated import Calibrated, calibrate_model
from uqfc.errors import UqfcError
from uqfc.numerics import F32
from uqfc.passes.support.quantizable import LAYERS
from uqfc.search.sensitivity import Rounds, measure_sensitivity
from uqfc.search.sensitivity.samples import Setting, checked_choices, read_samples

torch = pytest.importorskip("torch")

from uqfc.search.sensitivity.torch.hessian import (  # noqa: E402 - after the check
    HessianTrace,
    loss,
    quadratic_forms,
)

LABELS = np.array([0, 1, 1, 0, 1])


def tiny() -> Calibrated:
    """``x`` [1, 2] → 3 → sigmoid → 2: 6 weights in each layer, and a curved loss."""
    from onnx import helper  # only this test builds such a network

    random = np.random.default_rng(4)
    weights = {
        "w1": random.standard_normal((3, 2)).astype(np.float32),
        "w2": random.standard_normal((2, 3)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Gemm", ["x", "w1"], ["h"], name="first", transB=1),
        helper.make_node("Sigmoid", ["h"], ["s"], name="curve"),
        helper.make_node("Gemm", ["s", "w2"], ["y"], name="second", transB=1),
    ]
    network = model(nodes, {"x": (1, 2)}, {"y": (1, 2)}, weights, "tiny")
    return calibrate_model(network, calibration_data=vectors(), cache=False)


def vectors() -> list[F32]:
    random = np.random.default_rng(6)
    return [random.standard_normal((1, 2)).astype(np.float32) for _ in LABELS]


def trace_of(calibrated: Calibrated, labels: NDArray[np.int64] | None) -> HessianTrace:
    found = read_samples(calibrated, vectors(), 100)
    setting = Setting(calibrated, found, checked_choices(calibrated, None), labels)
    return HessianTrace(setting, 8, torch.float64)


def exact_hessian(measurement: HessianTrace, layer: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """By torch's own second derivatives, [6, 6]."""
    network, setting = measurement.network, measurement.setting
    ops = [op for op in network.function.body.block.ops if isinstance(op, LAYERS)]
    (place,) = [op.weight for op in ops if op.layer == layer]
    weight = network.weights[layer]
    targets = None if setting.labels is None else torch.from_numpy(setting.labels)
    fixed = [y.detach() for y in network.run(setting.samples)]

    def total(values: Any) -> Any:
        monkeypatch.setitem(network._constants, place, values)
        outputs = network.run(setting.samples)
        if targets is not None:
            return loss(outputs, targets)
        target = torch.softmax(fixed[0], dim=-1)
        return torch.nn.functional.cross_entropy(outputs[0], target)

    hessian: Callable[..., Any] = torch.autograd.functional.hessian
    return hessian(total, weight.detach()).reshape(weight.numel(), -1)


@pytest.mark.parametrize("labels", [None, LABELS], ids=["own", "labels"])
@pytest.mark.parametrize("layer", ["first", "second"])
def test_products_are_exact_and_their_mean_is_the_trace(
    layer: str, labels: NDArray[np.int64] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over all 64 vectors of signs, Hutchinson's mean has no variance. Float64 of values near 1,
    in sums of some hundred terms: 1e-12 is a thousand times what rounding can do."""
    measurement = trace_of(tiny(), labels)
    weight = measurement.network.weights[layer]
    signs = [
        torch.tensor(z, dtype=torch.float64).reshape(weight.shape)
        for z in product((-1.0, 1.0), repeat=weight.numel())
    ]
    setting = measurement.setting
    found = quadratic_forms(measurement.network, weight, setting.samples, setting.labels, signs)
    expected = exact_hessian(measurement, layer, monkeypatch)
    for value, z in zip(found, signs, strict=True):
        flat = z.reshape(-1)
        assert value == pytest.approx(float(flat @ expected @ flat), abs=1e-12)
    assert found.mean() == pytest.approx(float(expected.trace()), abs=1e-12)
    assert abs(float(expected.trace())) > 1e-3


def test_one_probe_is_exact_where_the_hessian_is_diagonal() -> None:
    """A layer with one weight has no other entries: all probes are the trace."""
    from onnx import helper  # only this test builds such a network

    nodes = [
        helper.make_node("Gemm", ["x", "w1"], ["h"], name="one", transB=1),
        helper.make_node("Tanh", ["h"], ["t"], name="curve"),
        helper.make_node("Gemm", ["t", "w2"], ["y"], name="two", transB=1),
    ]
    weights = {"w1": np.array([[0.7]], np.float32), "w2": np.array([[1.5], [-0.5]], np.float32)}
    network = model(nodes, {"x": (1, 1)}, {"y": (1, 2)}, weights, "diagonal")
    data = [np.array([[x]], np.float32) for x in (-1.0, 0.5, 2.0)]
    calibrated = calibrate_model(network, calibration_data=data, cache=False)
    setting = Setting(calibrated, read_samples(calibrated, data, 9), {"one": ("int8", "int4")})
    (found,) = HessianTrace(setting, 8, torch.float64).measure("one", 0, 8).values()
    assert found.tolist() == [found[0]] * 8
    w, x = 0.7, np.array([-1.0, 0.5, 2.0])
    t = np.tanh(np.float64(np.float32(w)) * x)
    p = 1 / (1 + np.exp(-2.0 * t))  # of two logits that are 2 t apart
    expected = np.mean(p * (1 - p) * (2.0 * (1 - t**2) * x) ** 2)  # Gauss-Newton
    assert found[0] == pytest.approx(expected, rel=1e-12)


def test_the_network_in_torch_is_the_float_network() -> None:
    """In float64: within what the kernels' float32 sums of 72 and fewer products can lose, 72 times
    2^-24 of values below 16 in each of four layers, that is 3e-4."""
    calibrated = calibrate_model(residual_network(), calibration_data=samples(IMAGE), cache=False)
    setting = Setting(
        calibrated,
        read_samples(calibrated, samples(IMAGE, 4, seed=3), 4),
        checked_choices(calibrated, None),
    )
    network = HessianTrace(setting, 2, torch.float64).network
    found = network.run(setting.samples)[0].detach().numpy()
    assert np.abs(found - setting.float_outputs[0].reshape(4, 5)).max() < 3e-4


def test_a_batch_of_samples_is_their_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    measurement = trace_of(tiny(), LABELS)
    (together,) = measurement.measure("first", 0, 2).values()
    monkeypatch.setattr("uqfc.search.sensitivity.torch.hessian.BATCH", 2)
    (apart,) = measurement.measure("first", 0, 2).values()
    assert together == pytest.approx(apart, abs=1e-12)


def test_labels_that_do_not_fit() -> None:
    calibrated = tiny()
    with pytest.raises(UqfcError, match="4 labels for 5 samples"):
        measure_sensitivity(calibrated, vectors(), method="hessian", labels=[0, 1, 0, 1])
    with pytest.raises(UqfcError, match="labels: accepted: integers, one for each sample"):
        measure_sensitivity(calibrated, vectors(), method="hessian", labels=[0.5] * 5)
    with pytest.raises(UqfcError, match="label 2; accepted: 0 to 1"):
        measure_sensitivity(calibrated, vectors(), method="hessian", labels=[0, 1, 2, 1, 0])
    table = measure_sensitivity(
        calibrated, vectors(), method="hessian", labels=LABELS, rounds=Rounds(2, 4)
    )
    assert table.method == "hessian"
