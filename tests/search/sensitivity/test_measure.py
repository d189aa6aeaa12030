"""``measure_sensitivity``: choices, determinism, checkpoints, errors, and the table's document."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.onnx_models import IMAGE, perceptron, residual_network, samples
from uqfc.calibrated import Calibrated, calibrate_model
from uqfc.errors import UqfcError
from uqfc.search.sensitivity import (
    Method,
    Rounds,
    SensitivityTable,
    default_pairs,
    interactions,
    measure_sensitivity,
)

DATA = samples(IMAGE, 6, seed=5)
NUMPY_METHODS = [method for method in Method if method != Method.HESSIAN]


def calibrated_network(seed: int = 0) -> Calibrated:
    return calibrate_model(residual_network(seed), calibration_data=samples(IMAGE), cache=False)


@pytest.fixture(scope="module")
def calibrated() -> Calibrated:
    return calibrated_network()


@pytest.fixture(scope="module")
def table(calibrated: Calibrated) -> SensitivityTable:
    return measure_sensitivity(calibrated, DATA)


# --- the table ------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", NUMPY_METHODS)
def test_every_layer_has_all_types_of_the_target(calibrated: Calibrated, method: Method) -> None:
    found = measure_sensitivity(calibrated, DATA, method=method, rounds=Rounds(2, 4))
    expected = {(layer.name, d) for layer in calibrated.layers for d in layer.choices}
    assert set(found.loss) == set(found.error) == expected
    assert all(found.loss[layer.name, "int8"] == 0 for layer in calibrated.layers)
    assert all(value >= 0 for value in found.loss.values())
    again = measure_sensitivity(calibrated, DATA, method=method, rounds=Rounds(2, 4))
    assert found == again


def test_choices_limit_what_is_measured(calibrated: Calibrated, table: SensitivityTable) -> None:
    choices = {"stem": ["int4"], "head": ["binary", "int8"]}
    found = measure_sensitivity(calibrated, DATA, choices=choices)
    assert set(found.loss) == {
        ("stem", "int8"),
        ("stem", "int4"),
        ("head", "int8"),
        ("head", "binary"),
    }
    assert found.layers == ("stem", "head")
    assert all(found.loss[item] == table.loss[item] for item in found.loss)


def test_predictions_are_sums(table: SensitivityTable) -> None:
    expected = table.loss["stem", "int4"] + table.loss["head", "binary"]
    assert table.predicted({"stem": "int4", "head": "binary", "pointwise": "int8"}) == expected
    with pytest.raises(UqfcError, match=r"layer 'stem' with int2 .* measured: int8, int4"):
        table.predicted({"stem": "int2"})


def test_rankings_start_with_the_most_sensitive(table: SensitivityTable) -> None:
    losses = [table.loss[layer, "ternary"] for layer in table.ranking("ternary")]
    assert len(losses) == 4
    assert losses == sorted(losses, reverse=True)


def test_a_table_is_its_document(table: SensitivityTable) -> None:
    document = json.loads(json.dumps(table.document()))
    assert SensitivityTable.from_document(document) == table


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"extra": 1}, "an object with method, layers"),
        ({"layers": "stem"}, "layers: accepted: a list of names"),
        ({"units": "many"}, "units: accepted: int"),
        ({"loss": []}, "loss: accepted: an object of objects"),
        ({"loss": {"other": {}}}, "loss: 'other' is not among the layers"),
        ({"loss": {"stem": 3}}, "loss: layer 'stem'"),
        ({"loss": {"stem": {"int4": float("nan")}}}, "loss: layer 'stem': int4"),
        ({"error": {}}, "do not have the same entries"),
    ],
)
def test_documents_that_are_none(
    table: SensitivityTable, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(UqfcError, match=message):
        SensitivityTable.from_document({**table.document(), **change}, "file")


# --- checkpoints ----------------------------------------------------------------------------------


def test_a_stopped_measurement_goes_on_to_the_same_table(
    calibrated: Calibrated, table: SensitivityTable, tmp_path: Path
) -> None:
    path = tmp_path / "sensitivity.json"

    def stop(stage: str, done: int, total: int) -> None:
        if done == total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure_sensitivity(calibrated, DATA, checkpoint=path, progress=stop)
    assert len(json.loads(path.read_text())["values"]) == 6
    assert measure_sensitivity(calibrated, DATA, checkpoint=path) == table


def test_a_checkpoint_of_something_else_is_refused(calibrated: Calibrated, tmp_path: Path) -> None:
    path, short = tmp_path / "sensitivity.json", Rounds(2, 2)
    choices = {"head": ["int4"]}
    measure_sensitivity(calibrated, DATA, choices=choices, rounds=short, checkpoint=path)
    kept = path.read_bytes()
    others: list[tuple[Calibrated, dict[str, Any]]] = [
        (calibrated_network(seed=1), {}),
        (calibrated, {"samples": DATA[1:]}),
        (calibrated, {"choices": {"head": ["binary"]}}),
        (calibrated, {"method": "mse"}),
        (calibrated, {"seed": 1}),
    ]
    for network, change in others:
        arguments: dict[str, Any] = {"samples": DATA, "choices": choices, **change}
        with pytest.raises(UqfcError, match="the checkpoint is of"):
            measure_sensitivity(network, rounds=short, checkpoint=path, **arguments)
    assert path.read_bytes() == kept


# --- mistakes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "kld"}, "method 'kld' of sensitivity; accepted: kl, mse, gauss_newton"),
        ({"choices": {"stam": ["int4"]}}, "no layer 'stam' .* nearest: stem"),
        ({"choices": {"stem": ["int3"]}}, "'int3'; accepted: int8, int4, ternary, binary"),
        ({"labels": [1] * 6}, "labels are for method 'hessian', not 'kl'"),
        ({"samples": DATA[:1]}, r"1 sample\(s\); accepted: 2 or more"),
        ({"samples": [np.zeros((1, 3, 9, 9), np.float32)]}, "image"),
    ],
)
def test_mistakes(calibrated: Calibrated, options: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"samples": DATA, **options}
    with pytest.raises(UqfcError, match=message):
        measure_sensitivity(calibrated, **arguments)


def test_interactions_of_chosen_pairs(calibrated: Calibrated, table: SensitivityTable) -> None:
    pair = ("head", "int4", "stem", "binary")
    reverse = ("stem", "binary", "head", "int4")
    found = interactions(calibrated, DATA, table, pairs=[pair, reverse])
    assert found[pair] == pytest.approx(found[reverse], abs=1e-12)
    with pytest.raises(UqfcError, match="layer 'stem' with itself"):
        interactions(calibrated, DATA, table, pairs=[("stem", "int4", "stem", "binary")])
    with pytest.raises(UqfcError, match="no layer 'stam'"):
        interactions(calibrated, DATA, table, pairs=[("stam", "int4", "stem", "binary")])


def test_pairs_are_neighbours_and_the_most_sensitive_ones() -> None:
    layers = tuple("abcdef")
    loss = {(layer, "int8"): 0.0 for layer in layers}
    loss |= {(layer, "int4"): float("adf".find(layer) + 1) for layer in layers}
    table = SensitivityTable("kl", layers, loss, dict.fromkeys(loss, 0.0))
    found = {(first, second) for first, _, second, _ in default_pairs(table, 3)}
    assert found == {("a", "d"), ("d", "f"), ("a", "f")}


def test_outputs_without_a_distribution() -> None:
    data = [np.random.default_rng(i).standard_normal((2, 6)).astype(np.float32) for i in range(3)]
    one = perceptron(np.ones((1, 4), np.float32), np.zeros(1, np.float32))
    del one.graph.output[0].type.tensor_type.shape.dim[:]
    for size in (2, 1):
        one.graph.output[0].type.tensor_type.shape.dim.add().dim_value = size
    calibrated = calibrate_model(one, calibration_data=data, cache=False)
    with pytest.raises(UqfcError, match="accepted: method 'mse'"):
        measure_sensitivity(calibrated, data)
    assert measure_sensitivity(calibrated, data, method="mse").units == 3


def test_optional_packages_are_not_imported() -> None:
    code = (
        "import sys, uqfc.search.sensitivity; "
        "print([m for m in ('torch', 'scipy', 'dask') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
