"""Latency tables: what they say of layers that were measured, or were not, and who can write them.

No test depends on how long anything takes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import uqfc
from tests.onnx_models import IMAGE, perceptron, residual_network, samples
from uqfc.calibrated import Calibrated, calibrate_model
from uqfc.cli import main
from uqfc.errors import TargetError, UqfcError
from uqfc.latency import LatencyTable, LayerLatency, bytes_of, fitted, measure_latencies
from uqfc.layer_facts import LayerFacts
from uqfc.targets import load_target

LAYERS = ("stem", "depthwise", "pointwise", "head")
DTYPES = ("int8", "int4", "ternary", "binary")


def facts(name: str, op: str = "conv2d", macs: int = 1000, weights: int = 64) -> LayerFacts:
    return LayerFacts(name, op, (weights, 1), macs, DTYPES, f"geometry of {name}", 100)


def entry(layer: LayerFacts, dtype: str, microseconds: float) -> dict[str, Any]:
    return {
        "op": layer.op,
        "geometry": layer.geometry,
        "dtype": dtype,
        "macs": layer.macs,
        "bytes": bytes_of(layer, dtype),
        "microseconds": microseconds,
    }


def document(*entries: dict[str, Any], target: str = "x86-64", **other: Any) -> dict[str, Any]:
    layers = list(entries) or [entry(facts("a"), "int8", 2.0)]
    return {"target": target, "cpu": "a CPU", "fixed": 5.0, "layers": layers, **other}


def table(*entries: dict[str, Any], **other: Any) -> LatencyTable:
    return LatencyTable.from_document(document(*entries, **other))


# --- what a table says ----------------------------------------------------------------------------


def test_what_was_measured_is_what_it_says() -> None:
    a, b = facts("a"), facts("b", weights=640)
    found = table(entry(a, "int8", 2.0), entry(b, "int8", 3.0), entry(b, "int8", 5.0))
    assert found.microseconds(a, "int8") == 2.0
    assert found.microseconds(replace(a, name="another"), "int8") == 2.0
    assert found.microseconds(b, "int8") == 4.0
    assert found.is_measured(a, "int8")
    assert not found.is_measured(a, "int4")
    assert found.total([a, b], {"a": "int8", "b": "int8"}) == 5.0 + 2.0 + 4.0
    with pytest.raises(UqfcError, match="no layer with int4 weights was measured; measured: int8"):
        found.microseconds(a, "int4")


counts = st.integers(0, 10**9)


@given(
    st.lists(st.tuples(counts, counts, st.floats(0.01, 1e6)), min_size=1, max_size=8),
    counts,
    counts,
)
@settings(max_examples=100)
def test_an_estimate_is_finite_and_never_falls_with_more_work(
    measured: Sequence[tuple[int, int, float]], macs: int, more: int
) -> None:
    layers = [facts(str(i), macs=m, weights=w) for i, (m, w, _) in enumerate(measured)]
    entries = [entry(x, "int8", t) for x, (_, _, t) in zip(layers, measured, strict=True)]
    found = table(*entries)
    small, large = facts("new", macs=macs), facts("newer", macs=macs + more, weights=64 + more)
    low, high = found.microseconds(small, "int8"), found.microseconds(large, "int8")
    assert 0 <= low <= high
    assert np.isfinite(high)


def test_a_fit_finds_the_line_that_there_is() -> None:
    """Exact data up to rounding: 1e-9 is far above the condition of these 3 columns * 2**-53."""
    layers = [
        facts(str(i), macs=m, weights=w)
        for i, (m, w) in enumerate(
            [(1000, 10), (2000, 500), (40_000, 77), (9000, 9000), (123, 4567)]
        )
    ]

    def time(layer: LayerFacts) -> float:
        return 0.001 * layer.macs + 0.01 * bytes_of(layer, "int8") + 0.5

    found = table(*(entry(x, "int8", time(x)) for x in layers))
    for new in (facts("new", macs=5000, weights=321), facts("far", macs=10**6, weights=10)):
        assert found.microseconds(new, "int8") == pytest.approx(time(new), rel=1e-9)


def test_no_coefficient_is_below_0() -> None:
    """The best line would fall with the bytes."""
    entries = [
        LayerLatency.model_validate(entry(facts(str(i), macs=m, weights=w), "int8", t))
        for i, (m, w, t) in enumerate([(100, 1000, 1.0), (200, 500, 3.0), (300, 10, 9.0)])
    ]
    assert (fitted(entries) >= 0).all()


def test_fits_are_of_the_same_op_if_there_are_enough() -> None:
    convs = [facts(f"c{i}", "conv2d", macs=1000 * i) for i in (1, 2, 3)]
    linears = [facts(f"l{i}", "linear", macs=1000 * i) for i in (1, 2, 3)]
    found = table(
        *(entry(x, "int8", 1.0) for x in convs), *(entry(x, "int8", 100.0) for x in linears)
    )
    assert found.microseconds(facts("new", "conv2d"), "int8") == pytest.approx(1.0)
    assert found.microseconds(facts("new", "linear"), "int8") == pytest.approx(100.0)
    assert found.microseconds(facts("new", "depthwise"), "int8") > 1.0


# --- files ----------------------------------------------------------------------------------------


def test_a_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    a = facts("a")
    written = table(entry(a, "int8", 0.1 + 0.2), entry(a, "int4", 1e-7), features=["avx2"])
    written.save(tmp_path / "latency.json")
    assert LatencyTable.load(tmp_path / "latency.json") == written


GOOD = document()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"version": "2.0"}, ["version", "1.0"]),
        ({"fixed": "fast"}, ["fixed", "number"]),
        ({"fixed": 1e400}, ["fixed", "finite"]),
        ({"surplus": 1}, ["surplus", "not permitted"]),
        ({"layers": []}, ["layers", "at least 1"]),
        ({"layers": [GOOD["layers"][0] | {"microseconds": -1}]}, ["layers.0.microseconds", "0"]),
        ({"layers": [GOOD["layers"][0] | {"dtype": "int3"}]}, ["layers.0.dtype", "int8"]),
        ({"layers": [GOOD["layers"][0] | {"macs": 1.5}]}, ["layers.0.macs", "integer"]),
        ({"layers": [GOOD["layers"][0] | {"macs": 1 << 70}]}, ["layers.0.macs", "less than"]),
        ({"target": ""}, ["target", "at least 1 character"]),
    ],
)
def test_a_malformed_table_is_refused_by_file_and_field(
    change: dict[str, Any], expected: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "latency.json"
    path.write_text(json.dumps(GOOD | change))
    with pytest.raises(UqfcError) as caught:
        LatencyTable.load(path)
    for part in (str(path), *expected):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a JSON file"),
        (b"[" * 100_000, "not a JSON file"),
        (b"\xff", "not a JSON file"),
        (b" " * ((8 << 20) + 1), "at most"),
        (b"[]", "malformed latency table"),
        (None, "cannot read"),
    ],
)
def test_what_is_no_table(content: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "latency.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UqfcError, match=message) as caught:
        LatencyTable.load(path)
    assert str(path) in str(caught.value)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from([*GOOD, "x"]), values), values)
@settings(max_examples=100)
def test_any_document_is_a_table_or_a_user_error(change: dict[str, Any], other: Any) -> None:
    for given_ in (GOOD | change, other):
        try:
            found = LatencyTable.from_document(given_, "t.json")
        except UqfcError as error:
            said = str(error)
        else:
            assert found.layers
            continue
        assert said.startswith("t.json: malformed latency table\n  ")


# --- measuring ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network() -> Calibrated:
    return calibrate_model(residual_network(), target="x86-64", calibration_data=samples(IMAGE))


def test_every_layer_is_measured_with_every_type(network: Calibrated) -> None:
    told: list[int] = []
    found = measure_latencies(network, progress=lambda _, done: told.append(done), runs=2, warmup=0)
    assert told == [1, 2, 3, 4]
    assert found.target == "x86-64"
    assert [(e.op, e.dtype) for e in found.layers] == [
        (layer.op, dtype) for dtype in DTYPES for layer in network.layers
    ]
    for layer in network.layers:
        assert all(found.microseconds(layer, dtype) > 0 for dtype in DTYPES)
        assert all(found.is_measured(layer, dtype) for dtype in DTYPES)
    assert set(found.by_layer(network.layers)) == {(n, d) for n in LAYERS for d in DTYPES}


def test_geometries_tell_layers_apart(network: Calibrated) -> None:
    assert len({layer.geometry for layer in network.layers}) == len(network.layers)
    stem = network.layers[0]
    assert stem.geometry.startswith("1x8x8x3 * 8x3x3x3, strides 1x1, padding 1x1x1x1")
    assert stem.geometry.endswith("groups 1, relu")
    assert "residual" in network.layers[2].geometry
    assert stem.activation_bytes == 64 * (3 + 8)


def test_only_types_that_layers_can_have(network: Calibrated) -> None:
    with pytest.raises(UqfcError, match="can have int3 on target x86-64; accepted: int8, int4"):
        measure_latencies(network, ["int8", "int3"])
    (only,) = {e.dtype for e in measure_latencies(network, ["int4"], runs=1, warmup=0).layers}
    assert only == "int4"


def test_a_target_that_does_not_run_here_is_refused() -> None:
    network = calibrate_model(
        perceptron(), target="rv64gcv", calibration_data=samples((2, 6)), cache=False
    )
    with pytest.raises(TargetError, match=r"latencies are measured on the device, .* lacks: riscv"):
        measure_latencies(network)


# --- `slower` -------------------------------------------------------------------------------------


def slow(network: Calibrated, name: str) -> LatencyTable:
    """Measurements by which int4 is slower for one layer, and faster for the others."""
    return table(
        *(entry(layer, "int8", 1.0) for layer in network.layers),
        *(entry(x, "int4", 2.0 if x.name == name else 0.5) for x in network.layers),
    )


@pytest.mark.parametrize("strategy", ["int4", "mixed_int4_int8"])
def test_a_narrower_type_that_is_slower_is_refused(
    strategy: str, network: Calibrated, tmp_path: Path
) -> None:
    slow(network, "stem").save(tmp_path / "latency.json")
    options: dict[str, Any] = {
        "target": "x86-64",
        "quant_strategy": strategy,
        "calibration_data": samples(IMAGE),
        "latencies": tmp_path / "latency.json",
    }
    model = uqfc.compile(residual_network(), **options)
    reasons = {la.name: (la.chosen, la.reason) for la in model.layers if la.weight_dtype}
    assert reasons["stem"] == ("int8", "slower")
    assert not {name for name, (_, reason) in reasons.items() if reason == "slower"} - {"stem"}
    asked = uqfc.compile(residual_network(), bit_widths={"stem": "int4"}, **options)
    assert [la.chosen for la in asked.layers if la.name == "stem"] == ["int4"]


def test_a_table_of_another_target_is_refused() -> None:
    with pytest.raises(UqfcError, match="of target x86-64, given for kirkwood_npu"):
        table().check(load_target("kirkwood_npu"))
    with pytest.raises(UqfcError, match="accepted: a LatencyTable, or the path"):
        uqfc.compile("model.onnx", latencies=5)  # pyright: ignore[reportArgumentType]


# --- the command ----------------------------------------------------------------------------------


def test_the_command_writes_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(perceptron(), tmp_path / "model.onnx")
    np.savez(tmp_path / "data.npz", x=np.concatenate(samples((2, 6), 4)))
    arguments = ["profile-target", str(tmp_path / "model.onnx"), "--runs", "1", "--warmup", "0"]
    arguments += ["--calibrate", str(tmp_path / "data.npz"), "-o", str(tmp_path / "latency.json")]
    assert main([*arguments, "--target", "x86-64", "--dtype", "int8", "--dtype", "int4"]) == 0
    assert "4 measurements for x86-64" in capsys.readouterr().out
    found = LatencyTable.load(tmp_path / "latency.json")
    assert [e.dtype for e in found.layers] == ["int8", "int8", "int4", "int4"]
    assert main([*arguments, "--target", "rv64gcv"]) == 2
    assert "lacks: riscv64" in capsys.readouterr().err
    assert main([*arguments[:-1], str(tmp_path / "latency.toml")]) == 2
    assert "ends in .json" in capsys.readouterr().err
