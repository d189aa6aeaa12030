"""What the methods measure, against its definition."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from tests.onnx_models import IMAGE, model, perceptron, residual_network, samples
from uqfc.calibrated import Calibrated, calibrate_model
from uqfc.numerics import F32, F64
from uqfc.search.sensitivity import Rounds, interactions, measure_sensitivity
from uqfc.search.sensitivity.divergence import kl_divergence, log_softmax
from uqfc.search.sensitivity.gauss_newton import (
    SMALL,
    FisherTrace,
    GaussNewton,
    step_size,
)
from uqfc.search.sensitivity.samples import Setting, checked_choices, read_samples
from uqfc.search.sensitivity.table import Item
from uqfc.search.sensitivity.units import rademacher

DATA = samples(IMAGE, 4, seed=5)
VECTORS = [np.random.default_rng(i).standard_normal((1, 4)).astype(np.float32) for i in range(6)]


@pytest.fixture(scope="module")
def calibrated() -> Calibrated:
    return calibrate_model(residual_network(), calibration_data=samples(IMAGE), cache=False)


def softmax_regression() -> Calibrated:
    """``logits = W x + b`` of 3 classes: everything about it has a formula."""
    from onnx import helper  # only these tests build such a network

    random = np.random.default_rng(2)
    weights = {
        "w": random.standard_normal((3, 4)).astype(np.float32),
        "b": random.standard_normal(3).astype(np.float32),
    }
    node = helper.make_node("Gemm", ["x", "w", "b"], ["y"], name="layer", transB=1)
    onnx_model = model([node], {"x": (1, 4)}, {"y": (1, 3)}, weights, "regression")
    return calibrate_model(onnx_model, calibration_data=VECTORS, cache=False)


def setting_of(calibrated: Calibrated, data: object = None, labels: Any = None) -> Setting:
    found = read_samples(calibrated, DATA if data is None else data, 100)
    return Setting(calibrated, found, checked_choices(calibrated, None), labels)


# --- kl and mse -----------------------------------------------------------------------------------


def logits_of(calibrated: Calibrated, bit_widths: dict[str, str]) -> F32:
    compiled = calibrated.compile(bit_widths)
    return np.stack([compiled.run({"image": image})["logits"] for image in DATA])


@pytest.mark.parametrize("method", ["kl", "mse"])
def test_an_entry_is_the_mean_over_deployed_networks(calibrated: Calibrated, method: str) -> None:
    table = measure_sensitivity(calibrated, DATA, method=method)
    wide = {layer.name: "int8" for layer in calibrated.layers}
    before = logits_of(calibrated, wide)
    for layer, dtype in [("stem", "ternary")]:
        after = logits_of(calibrated, wide | {layer: dtype})
        if method == "kl":
            values = kl_divergence([before], [after])
        else:
            values = np.square(after.astype(np.float64) - before).reshape(4, -1).mean(axis=1)
        assert table.loss[layer, dtype] == pytest.approx(values.mean(), rel=1e-12)
        assert table.error[layer, dtype] == pytest.approx(3.1824 * values.std(ddof=1) / 2, rel=1e-9)


def test_an_interaction_is_what_two_layers_lose_beyond_the_sum(calibrated: Calibrated) -> None:
    table = measure_sensitivity(calibrated, DATA)
    found = interactions(calibrated, DATA, table)
    wide = {layer.name: "int8" for layer in calibrated.layers}
    both = logits_of(calibrated, wide | {"stem": "binary", "pointwise": "int4"})
    loss = kl_divergence([logits_of(calibrated, wide)], [both]).mean()
    expected = loss - table.loss["stem", "binary"] - table.loss["pointwise", "int4"]
    assert found["stem", "binary", "pointwise", "int4"] == pytest.approx(expected, abs=1e-12)
    layers = len(calibrated.layers)
    assert len(found) == 9 * layers * (layers - 1) // 2  # all pairs of so few layers


# --- second order ---------------------------------------------------------------------------------


def variance(logits: F64, change: F64) -> F64:
    """Of the change under the softmax, [samples]: changeᵀ (diag p − p pᵀ) change."""
    p = np.exp(log_softmax(logits))
    return (p * change**2).sum(axis=-1) - (p * change).sum(axis=-1) ** 2


def third_order(change: F64, epsilon: float) -> F64:
    """How far KL / ε² may be from half the variance, [samples].

    The remainder of the series is ε / 6 times a third central moment (of the softmax somewhere on
    the way), which is at most range³ / (6 √3). Float32 logits of this size (below 16) are wrong by
    at most 8 units of 2^-20 in each of both runs: the change is ε·range, known to 2^-16, so that
    half its square, over ε², is wrong by less than range · 2^-16 / ε + (2^-16 / ε)².
    """
    width = change.max(axis=-1) - change.min(axis=-1)
    noise = 2.0**-16 / epsilon
    return epsilon / 6 * width**3 / (6 * 3**0.5) + width * noise + noise**2


def test_gauss_newton_is_the_quadratic_form_of_the_fisher_matrix() -> None:
    calibrated = softmax_regression()
    setting = setting_of(calibrated, VECTORS)
    measurement = GaussNewton(setting)
    own = setting.floating.parameters["layer"]
    x = np.concatenate(VECTORS).astype(np.float64)
    logits = x @ own.weight.T.astype(np.float64) + own.bias
    for dtype in ("int4", "ternary", "binary"):
        item: Item = ("layer", dtype)
        quantized = setting.quantized_parameters[item]
        change = x @ (quantized.weight - own.weight).T.astype(np.float64)
        change += quantized.bias - own.bias
        (found,) = measurement.measure(item, 0, len(VECTORS)).values()
        allowed = third_order(change, measurement.steps_taken[item])
        assert (np.abs(found - variance(logits, change) / 2) <= allowed).all()
        assert allowed.max() < 0.25 * found.max(), "the bound would hide a wrong factor"


def test_a_step_is_the_largest_that_is_small(calibrated: Calibrated) -> None:
    setting = setting_of(calibrated)
    networks = setting.floating
    direction = rademacher(networks.parameters["stem"].flat.size, 0)
    epsilon = step_size(setting, "stem", direction)
    original = networks.parameters["stem"].flat
    found = [
        kl_divergence(
            setting.float_outputs,
            networks.run(
                setting.samples, {"stem": original + (step * direction).astype(np.float32)}
            ),
        ).mean()
        for step in (epsilon, 2 * epsilon)
    ]
    assert epsilon < 1
    assert found[0] <= SMALL < found[1]


def exact_fisher(x: F64, logits: F64) -> F64:
    """Mean Fisher matrix of ``logits = W x + b`` in W, row by row: [12, 12]."""
    p = np.exp(log_softmax(logits))
    blocks = [
        np.kron(np.diag(q) - np.outer(q, q), np.outer(v, v)) for q, v in zip(p, x, strict=True)
    ]
    return np.mean(blocks, axis=0)


def test_probes_of_the_fisher_matrix() -> None:
    calibrated = softmax_regression()
    setting = setting_of(calibrated, VECTORS)
    own = setting.floating.parameters["layer"]
    x = np.concatenate(VECTORS).astype(np.float64)
    fisher = exact_fisher(x, x @ own.weight.T.astype(np.float64) + own.bias)
    measurement = FisherTrace(setting, 8)
    (found,) = measurement.measure("layer", 0, 8).values()
    for probe, value in enumerate(found):
        z = rademacher(12, setting.seed, 0, probe).astype(np.float64)
        change = x @ z.reshape(3, 4).T
        allowed = 2 * third_order(change, measurement.steps_taken["layer"]).mean()
        assert abs(value - z @ fisher @ z) <= allowed
        assert allowed < 0.25 * np.trace(fisher)


def test_the_trace_is_the_mean_over_all_probes() -> None:
    """Hutchinson's identity, and that probes are signs."""
    matrix = np.random.default_rng(0).standard_normal((4, 4))
    forms = [np.array(z) @ matrix @ np.array(z) for z in product((-1.0, 1.0), repeat=4)]
    assert np.mean(forms) == pytest.approx(np.trace(matrix), rel=1e-12)
    assert set(rademacher(100, 1, 2).tolist()) == {-1.0, 1.0}
    assert not np.array_equal(rademacher(100, 1, 2), rademacher(100, 1, 3))


@pytest.mark.parametrize("method", ["fisher_trace", "hessian"])
def test_entries_of_traces_are_those_of_hawq(calibrated: Calibrated, method: str) -> None:
    """Types of a layer differ by the squared change of its weights alone."""
    if method == "hessian":
        pytest.importorskip("torch")
    table = measure_sensitivity(calibrated, DATA, method=method, rounds=Rounds(2, 2))
    changes = measure_sensitivity(calibrated, DATA, method="perturbation")
    for layer in table.layers:
        ratios = [
            table.loss[layer, dtype] / changes.loss[layer, dtype]
            for dtype in ("int4", "ternary", "binary")
        ]
        assert ratios == pytest.approx([ratios[0]] * 3, rel=1e-12)


def test_perceptrons_of_two_rows() -> None:
    """A batch of two is one sample."""
    data = [np.random.default_rng(i).standard_normal((2, 6)).astype(np.float32) for i in range(3)]
    calibrated = calibrate_model(perceptron(), calibration_data=data, cache=False)
    table = measure_sensitivity(calibrated, data)
    assert table.units == 3
