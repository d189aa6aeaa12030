from __future__ import annotations

import gc
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.codegen.toy import COUNT, FACTOR, TARGET, WEIGHTS, make_info, toy_inputs, toy_object
from uqfc.codegen.artifact import encode_info, write_shared_object
from uqfc.codegen.jit import load as load_code
from uqfc_runtime import ExecutionError, InputError, Model, UnsupportedCpuError, load
from uqfc_runtime.binding import Addresses
from uqfc_runtime.info import DTYPES

floats = hnp.arrays(np.float32, (2, COUNT // 2))
flags = hnp.arrays(np.uint8, (1,))


@pytest.fixture(scope="module", params=["jit", "shared object"])
def model(request: pytest.FixtureRequest, jit: Model) -> Model:
    return jit if request.param == "jit" else load(request.getfixturevalue("artifact"))


def check(inputs: dict[str, Any], outputs: dict[str, Any]) -> None:
    with np.errstate(over="ignore"):
        expected = inputs["x"].reshape(-1) * np.float32(FACTOR)
    np.testing.assert_array_equal(outputs["y"], expected)
    assert outputs["y"].dtype == np.float32
    np.testing.assert_array_equal(outputs["z"], inputs["i"] + np.uint8(1))


@given(floats, flags)
@settings(max_examples=50, deadline=None)
def test_computes(model: Model, x: Any, i: Any) -> None:
    check({"x": x, "i": i}, model.run({"i": i, "x": x}))


def test_info_and_layers(model: Model) -> None:
    assert model.info.name == "toy"
    assert model.layers[0].reason == "no_kernel"
    assert repr(model) == (
        "<Model toy (x: float32[2, 20], i: uint8[1]) -> (y: float32[40], z: uint8[1]) for x86-64>"
    )


def test_strided_and_misaligned_inputs_are_copied(model: Model) -> None:
    inputs = toy_inputs(5)
    column_major = np.asfortranarray(inputs["x"])
    check(inputs, model.run(inputs | {"x": column_major}))
    reversed_twice = inputs["x"][::-1].copy()[::-1]
    check(inputs, model.run(inputs | {"x": reversed_twice}))
    raw = np.zeros(4 * COUNT + 1, np.uint8)
    misaligned = raw[1:].view(np.float32).reshape(2, -1)
    misaligned[...] = inputs["x"]
    check(inputs, model.run(inputs | {"x": misaligned}))


@given(
    st.sampled_from([*DTYPES, "float64", "float16", ">f4", "U3", "complex64"]),
    st.lists(st.integers(0, 50), max_size=4).map(tuple),
)
@settings(max_examples=50, deadline=None)
def test_only_the_exact_dtype_and_shape_are_accepted(
    jit: Model, dtype: str, shape: tuple[int, ...]
) -> None:
    array = np.zeros(shape, dtype)
    if array.dtype == np.float32 and shape == (2, COUNT // 2):
        return
    with pytest.raises(InputError, match=r"input 'x': expected float32\[2, 20\], got") as error:
        jit.run(toy_inputs() | {"x": array})
    assert str(error.value).endswith(f"{array.dtype}{list(shape)}")


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ({"x": 0}, "missing input 'i'"),
        ({"X": 0, "i": 0}, "unknown input 'X'; missing input 'x'; the model's inputs are: 'x' fl"),
        ({"x": [[1], [1, 2]], "i": 0}, "input 'x': not an array"),
        ({"x": [[1.0]], "i": 0}, "got float64"),
        ({"x": object(), "i": 0}, "got object"),
    ],
)
def test_input_errors(jit: Model, inputs: dict[str, Any], expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        jit.run(inputs)


def test_out_is_written_to(model: Model) -> None:
    inputs = toy_inputs(3)
    y = np.full(COUNT, np.nan, np.float32)
    result = model.run(inputs, out={"y": y})
    assert result["y"] is y
    check(inputs, result)


@pytest.mark.parametrize(
    ("out", "expected"),
    [
        ({"w": np.zeros(COUNT, np.float32)}, "unknown output 'w'.*'y' float32"),
        ({"y": np.zeros(COUNT)}, r"output 'y': expected float32\[40\], got float64"),
        ({"y": np.zeros(COUNT + 1, np.float32)}, r"got float32\[41\]"),
        ({"y": np.zeros(2 * COUNT, np.float32)[::2]}, "C-contiguous and writable"),
        ({"y": np.frombuffer(bytes(4 * COUNT), np.float32)}, "C-contiguous and writable"),
    ],
)
def test_bad_out(jit: Model, out: dict[str, Any], expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        jit.run(toy_inputs(), out=out)


def test_out_must_not_share_memory(jit: Model) -> None:
    inputs = toy_inputs()
    with pytest.raises(InputError, match="shares memory"):
        jit.run(inputs, out={"y": inputs["x"].reshape(-1)})
    y = np.zeros(COUNT, np.float32)
    with pytest.raises(InputError, match="shares memory"):
        jit.run(inputs, out={"y": y, "z": y.view(np.uint8)[:1]})


def test_call_needs_a_single_input(jit: Model) -> None:
    with pytest.raises(InputError, match=r"2 inputs \(x, i\)"):
        jit(np.zeros(3))


def test_inputs_may_be_read_only(model: Model) -> None:
    inputs = toy_inputs()
    expected = model.run(inputs)
    for array in inputs.values():
        array.flags.writeable = False
    found = model.run(inputs)
    assert {k: v.tobytes() for k, v in found.items()} == {
        k: v.tobytes() for k, v in expected.items()
    }


def test_threads_get_the_same_bits(model: Model) -> None:
    inputs = [toy_inputs(seed) for seed in range(64)]
    expected = [model.run(x) for x in inputs]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            for want, got in zip(expected, pool.map(model.run, inputs), strict=True):
                assert {k: v.tobytes() for k, v in want.items()} == {
                    k: v.tobytes() for k, v in got.items()
                }
    assert len(model._idle) <= 8


def test_arena_is_aligned_and_reused(jit: Model) -> None:
    jit.run(toy_inputs())
    workspace = jit._idle[-1]
    assert workspace.addresses[-1] % 64 == 0
    jit.run(toy_inputs())
    assert jit._idle[-1] is workspace


def test_misaligned_arena_is_refused_by_the_code(artifact: Path) -> None:
    model = load(artifact)
    model.run(toy_inputs())
    workspace = model._idle[-1]
    inputs, outputs, arena = workspace.addresses
    workspace.addresses = inputs, outputs, arena + 4
    with pytest.raises(ExecutionError, match="status -1"):
        model.run(toy_inputs())


def test_arena_that_cannot_be_allocated(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("uqfc_runtime.model.aligned_bytes", fail)
    code = load_code(toy_object(), ["uqf_internal_run"])
    addresses = Addresses(code.address("uqf_internal_run"))
    model = Model.from_functions(addresses, encode_info(make_info()), WEIGHTS, code)
    with pytest.raises(ExecutionError, match="arena of 160 bytes"):
        model.run(toy_inputs())


def test_function_for_another_cpu() -> None:
    target = make_info()["target"] | {"cpu_features": ["avx9000"]}
    with pytest.raises(UnsupportedCpuError, match="avx9000"):
        Model.from_functions(Addresses(0), encode_info(make_info(target=target)))


def test_weights_are_copied() -> None:
    code = load_code(toy_object(), ["uqf_internal_run"])
    weights = np.frombuffer(WEIGHTS, np.uint8).copy()
    addresses = Addresses(code.address("uqf_internal_run"))
    model = Model.from_functions(addresses, encode_info(make_info()), weights, owner=code)
    del code
    weights[:] = 0
    gc.collect()
    inputs = toy_inputs(1)
    check(inputs, model.run(inputs))


def test_file_may_be_replaced_under_a_loaded_model(artifact: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.so"
    path.write_bytes(artifact.read_bytes())
    first = load(path)
    inode = path.stat().st_ino
    other = tmp_path / "other.so"
    weights = np.array([3.0], np.float32).tobytes() + bytes(len(WEIGHTS) - 4)
    write_shared_object(other, [toy_object()], weights, make_info(), TARGET)
    path.write_bytes(other.read_bytes())
    assert path.stat().st_ino == inode
    second = load(path)
    inputs = toy_inputs(2)
    check(inputs, first.run(inputs))
    np.testing.assert_array_equal(second.run(inputs)["y"], inputs["x"].reshape(-1) * np.float32(3))


def test_nothing_stays_behind(
    artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for _ in range(3):
        load(artifact).run(toy_inputs())
    assert list(tmp_path.iterdir()) == []
    gc.collect()
    maps = Path("/proc/self/maps")
    if maps.exists():
        assert str(tmp_path) not in maps.read_text()
