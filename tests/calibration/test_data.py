from __future__ import annotations

import io
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uqfc.calibration import iterate
from uqfc.calibration.data import Inputs
from uqfc.errors import CalibrationError

ONE: Inputs = {"x": ((2, 3, 4), np.float32)}
TWO: Inputs = {"a": ((1, 3), np.float32), "b": ((1,), np.int64)}


def numbered(*shape: int, dtype: Any = np.float32) -> Any:
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


def stacked(source: object, inputs: Inputs, name: str = "x", **options: Any) -> Any:
    return np.stack([batch[name] for batch in iterate(source, inputs, **options)])


@given(st.integers(1, 5), st.lists(st.integers(0, 7), min_size=1, max_size=5))
def test_samples_are_rebatched_in_order(batch: int, sizes: list[int]) -> None:
    total = sum(sizes)
    samples = numbered(total, 3)
    items = np.split(samples, np.cumsum(sizes)[:-1])
    data = iterate(items, {"x": ((batch, 3), np.float32)})
    if total < batch:
        with pytest.raises(CalibrationError, match=rf"one batch of {batch} .*\({total} sample"):
            list(data)
        return
    batches = [b["x"] for b in data]
    assert all(b.shape == (batch, 3) and b.dtype == np.float32 for b in batches)
    assert np.array_equal(np.concatenate(batches), samples[: total - total % batch])
    assert data.batches == total // batch
    assert data.dropped == total % batch


@pytest.mark.parametrize("shape", [(6, 3, 4), (3, 2, 3, 4)])
@pytest.mark.parametrize("kind", ["npz", "npz_compressed", "npy", "array", "mapping", "items"])
def test_every_source_gives_the_same(shape: tuple[int, ...], kind: str, tmp_path: Path) -> None:
    x = numbered(*shape)
    path = tmp_path / f"data.{kind[:3]}"
    if kind == "npz":
        np.savez(path, x=x)
    elif kind == "npz_compressed":
        np.savez_compressed(path, x=x)
    elif kind == "npy":
        np.save(path, x)
    sources = {"array": x, "mapping": {"x": x}, "items": [{"x": part} for part in x]}
    result = stacked(sources.get(kind, path), ONE)
    assert np.array_equal(result, x.reshape(3, 2, 3, 4))


def test_an_exact_input_and_a_single_sample() -> None:
    x = numbered(2, 3, 4)
    assert np.array_equal(stacked(x, ONE), x[None])
    assert np.array_equal(stacked([x[0], x[1], x[0]], ONE), x[None])
    assert np.array_equal(stacked(str_path_source(x), ONE), x[None])


def str_path_source(x: Any) -> Iterator[Any]:
    yield from x


def test_several_inputs(tmp_path: Path) -> None:
    path = tmp_path / "two.npz"
    np.savez(path, b=numbered(5, dtype=np.int64), a=numbered(5, 3))
    batches = list(iterate(str(path), TWO))
    assert [b["b"].tolist() for b in batches] == [[0], [1], [2], [3], [4]]
    assert np.array_equal(np.concatenate([b["a"] for b in batches]), numbered(5, 3))
    assert list(batches[0]) == ["a", "b"]


def test_inputs_without_a_common_batch(tmp_path: Path) -> None:
    inputs: Inputs = {"x": ((4, 3), np.float32), "n": ((), np.int32)}
    path = tmp_path / "data.npz"
    np.savez(path, x=numbered(5, 4, 3), n=numbered(5, dtype=np.int32))
    batches = list(iterate(path, inputs))
    assert [int(b["n"]) for b in batches] == [0, 1, 2, 3, 4]
    assert all(b["n"].shape == () for b in batches)
    assert np.array_equal(np.stack([b["x"] for b in batches]), numbered(5, 4, 3))
    with pytest.raises(CalibrationError, match=r"shape \[8, 3\]; accepted: \[4, 3\], \[n, 4, 3\]$"):
        list(iterate({"x": numbered(8, 3), "n": np.int32(1)}, inputs))


def test_limits_and_repeated_iteration() -> None:
    data = iterate(numbered(9, 3, 4), ONE, limit=3)
    first = [b["x"] for b in data]
    assert len(first) == data.batches == 3
    assert np.array_equal(np.stack(first), stacked(data_again := iterate(data, ONE), ONE))
    assert data_again is not data


def test_dtypes_that_hold_every_value_are_widened(tmp_path: Path) -> None:
    half = numbered(2, 3, 4, dtype=np.float16)
    assert stacked(half, ONE).dtype == np.float32
    path = tmp_path / "big_endian.npy"
    np.save(path, numbered(2, 3, 4, dtype=">f4"))
    result = stacked(path, ONE)
    assert result.dtype == np.float32
    assert np.array_equal(result, numbered(1, 2, 3, 4))


@pytest.mark.parametrize("dtype", [np.float64, np.uint8, np.int32, np.bool_, np.complex64])
def test_other_dtypes_are_refused(dtype: Any) -> None:
    expected = f"input 'x' is {np.dtype(dtype)}; accepted: float32"
    with pytest.raises(CalibrationError, match=expected):
        list(iterate(numbered(2, 3, 4, dtype=dtype), ONE))


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"y": numbered(2, 3, 4)}, "item 0: no array for input 'x'; no input is called 'y'"),
        ({"x": numbered(2, 3, 4), "labels": numbered(2)}, "no input is called 'labels'"),
        ({}, "no array for input 'x'"),
        ({"x": numbered(3, 4, 2)}, r"has shape \[3, 4, 2\]; accepted: \[2, 3, 4\], \[n, 3, 4\], "),
        ({"x": np.float32(1)}, r"input 'x' has shape \[\]"),
        ({"x": object()}, "input 'x' is object; accepted: float32"),
        ({"x": [[1.0], [2.0, 3.0]]}, "input 'x' is not an array"),
        ((numbered(2, 3, 4), 7), "item 0 is a tuple; accepted: .*labels must be left out"),
    ],
)
def test_items_that_do_not_fit_are_named(item: object, message: str) -> None:
    with pytest.raises(CalibrationError, match=message):
        list(iterate([item], ONE))


def test_the_wrong_item_is_numbered() -> None:
    good = numbered(2, 3, 4)
    with pytest.raises(CalibrationError, match="calibration item 2: input 'x'"):
        list(iterate([good, good, good[:, :2]], ONE))


def test_an_unnamed_array_for_two_inputs(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", numbered(5, 3))
    for source in (tmp_path / "one.npy", numbered(5, 3), tmp_path):
        with pytest.raises(CalibrationError, match=r"one unnamed array .* inputs 'a', 'b'"):
            list(iterate(source, TWO))


def test_unequal_numbers_of_samples(tmp_path: Path) -> None:
    arrays = {"a": numbered(5, 3), "b": numbered(4, dtype=np.int64)}
    np.savez(tmp_path / "data.npz", **arrays)
    for source in (arrays, tmp_path / "data.npz"):
        with pytest.raises(CalibrationError, match="different numbers of samples: 'a' 5, 'b' 4"):
            list(iterate(source, TWO))


def test_sources_that_are_none() -> None:
    for source in (3, None):
        with pytest.raises(CalibrationError, match=f"data is a {type(source).__name__}; accepted"):
            list(iterate(source, ONE))
    for source in ([], iter([])):
        with pytest.raises(CalibrationError, match="not one batch"):
            list(iterate(source, ONE))
    with pytest.raises(CalibrationError, match="no inputs"):
        iterate([], {})


def npy_bytes(x: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, x, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a .npy array"),
        (b"PK\x03\x04 nonsense", "not a .npy array"),
        (npy_bytes(numbered(4, 3, 4))[:-8], "the file ends before the array"),
        (npy_bytes(np.array([{}], object), allow_pickle=True), "holds Python objects"),
        (npy_bytes(np.asfortranarray(numbered(4, 3, 4))), "in Fortran order"),
        (npy_bytes(numbered(2, 3, 4))[:6] + b"\x09\x00", "format version 9.0"),
    ],
)
def test_malformed_arrays(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_bytes(content)
    with pytest.raises(CalibrationError, match=message):
        list(iterate(tmp_path / "x.npy", ONE))
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("x.npy", content)
    with pytest.raises(CalibrationError, match=message):
        list(iterate(tmp_path / "x.npz", ONE))


def test_malformed_files(tmp_path: Path) -> None:
    (tmp_path / "bad.npz").write_bytes(b"not a zip")
    (tmp_path / "data.csv").write_text("1,2")
    for name, message in [
        ("bad.npz", "not a readable .npz file"),
        ("data.csv", "unknown kind of calibration data; accepted: .npz"),
        ("absent.npz", "no such file or directory"),
    ]:
        with pytest.raises(CalibrationError, match=message):
            list(iterate(tmp_path / name, ONE))
    np.savez(tmp_path / "names.npz", images=numbered(2, 3, 4))
    with pytest.raises(CalibrationError, match=r"names\.npz: no array for input 'x'; .*'images'"):
        list(iterate(tmp_path / "names.npz", ONE))


def test_a_damaged_archive(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, x=np.zeros((2000, 3, 4), np.float32))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(bytes(content))
    with pytest.raises(CalibrationError, match=r"x\.npz: array 'x': Bad CRC-32"):
        list(iterate(path, ONE))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_files_are_streamed(save: Any, tmp_path: Path) -> None:
    path = tmp_path / "large.npz"
    save(path, x=np.zeros((20_000, 3, 64), np.float32))  # 15 MB
    tracemalloc.start()
    batches = sum(1 for _ in iterate(path, {"x": ((2, 3, 64), np.float32)}))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert batches == 10_000
    assert peak < 1_000_000
