"""Entries come back as they were stored, or not at all."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uqfc.cache import Cache, Usage, default_directory, key_of

needs_descriptors = pytest.mark.skipif(
    os.open not in os.supports_dir_fd, reason="no cache without directory descriptors"
)
pytestmark = needs_descriptors

KEY = key_of(["a key"])


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def only_file(cache: Cache) -> Path:
    assert cache.directory is not None
    (path,) = cache.directory.iterdir()
    return path


@given(st.dictionaries(st.text(), st.binary(max_size=200)))
@settings(max_examples=20)
def test_what_was_stored_last_comes_back(entries: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = Cache(Path(folder) / "cache")
        for name, value in entries.items():
            assert store.get(key_of([name])) is None
            store.put(key_of([name]), b"something else")
            store.put(key_of([name]), value)
        for name, value in entries.items():
            assert Cache(store.directory).get(key_of([name])) == value
        assert store.usage().entries == len(entries)
        store.clear()
        assert store.usage() == Usage(0, 0)


@given(st.lists(st.binary(max_size=9), max_size=4), st.lists(st.binary(max_size=9), max_size=4))
def test_keys_tell_lists_of_parts_apart(a: list[bytes], b: list[bytes]) -> None:
    assert (key_of(a) == key_of(b)) == (a == b)


@given(st.data())
@settings(max_examples=60)
def test_a_damaged_entry_is_a_miss_and_is_replaced(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = Cache(Path(folder))
        store.put(KEY, b"the value")
        path = only_file(store)
        content = bytearray(path.read_bytes())
        if data.draw(st.booleans(), "truncate"):
            del content[data.draw(st.integers(0, len(content) - 1), "length") :]
        else:
            place = data.draw(st.integers(0, len(content) - 1), "place")
            content[place] ^= data.draw(st.integers(1, 255), "bits")
        path.write_bytes(content)
        assert store.get(KEY) is None
        store.put(KEY, b"the value")
        assert store.get(KEY) == b"the value"


def test_an_entry_under_another_key_is_a_miss(cache: Cache) -> None:
    cache.put(KEY, b"code of a kernel")
    other = key_of(["another"])
    path = only_file(cache)
    path.rename(path.with_name(path.name.replace(KEY, other)))
    assert cache.get(other) is None


def test_a_link_is_not_followed(cache: Cache, tmp_path: Path) -> None:
    cache.put(KEY, b"value")
    path = only_file(cache)
    elsewhere = tmp_path / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    assert cache.get(KEY) is None


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o720, 0o702, 0o1777])
def test_a_directory_that_others_may_write_to_is_not_used(cache: Cache, mode: int) -> None:
    assert cache.directory is not None
    cache.put(KEY, b"value")
    cache.directory.chmod(mode)
    assert cache.get(KEY) is None
    assert cache.usage() == Usage(0, 0)
    cache.put(key_of(["other"]), b"value")
    cache.directory.chmod(0o700)
    assert cache.get(KEY) == b"value"
    assert cache.usage().entries == 1


def test_a_directory_of_somebody_else_is_not_used(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.put(KEY, b"value")
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    assert cache.get(KEY) is None
    cache.put(KEY, b"another")
    monkeypatch.setattr(os, "geteuid", lambda: user)
    assert cache.get(KEY) == b"value"


def in_the_way(path: Path) -> None:
    path.write_bytes(b"")


def below_a_file(path: Path) -> None:
    path.parent.rmdir()
    path.parent.write_bytes(b"")


@pytest.mark.parametrize("obstacle", [in_the_way, below_a_file])
def test_no_directory_is_no_error(tmp_path: Path, obstacle: Callable[[Path], None]) -> None:
    (tmp_path / "base").mkdir()
    store = Cache(tmp_path / "base" / "cache")
    obstacle(tmp_path / "base" / "cache")
    store.put(KEY, b"value")
    assert store.get(KEY) is None
    assert store.usage() == Usage(0, 0)
    store.clear()


def test_a_full_disk_is_no_error(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.put(KEY, b"value")

    def replace(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", replace)
    cache.put(key_of(["other"]), b"value")
    assert cache.usage().entries == 1
    assert cache.get(KEY) == b"value"


def test_the_bound_is_kept_and_what_is_used_stays(tmp_path: Path) -> None:
    store = Cache(tmp_path, limit=64_000)
    for i in range(200):
        store.put(key_of([str(i)]), bytes(1000))
        assert store.get(key_of(["0"])) is not None
        assert store.usage().size <= 64_000
    assert store.get(key_of(["1"])) is None
    assert store.get(key_of(["199"])) is not None
    assert store.usage().size > 32_000


def test_a_value_too_large_for_the_cache_is_not_stored(tmp_path: Path) -> None:
    store = Cache(tmp_path, limit=64_000)
    store.put(KEY, bytes(5000))
    assert store.usage() == Usage(0, 0)


def value_of(name: int) -> bytes:
    return bytes([name]) * (1000 * name + 1)


def hammer(arguments: tuple[str, int]) -> int:
    """Read and write shared keys; returns how many reads gave a value, -1 if one was wrong."""
    directory, seed = arguments
    store, hits = Cache(Path(directory), limit=200_000), 0
    for step in range(150):
        name = (seed * 31 + step * 7) % 13
        value = store.get(key_of([str(name)]))
        if value is None:
            store.put(key_of([str(name)]), value_of(name))
        elif value != value_of(name):
            return -1
        else:
            hits += 1
    return hits


def test_processes_share_a_directory(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        hits = pool.map(hammer, [(str(tmp_path), seed) for seed in range(4)])
    assert min(hits) > 0
    assert not list(tmp_path.glob("*.new"))


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("UQFC_CACHE_DIR", str(tmp_path))
    assert default_directory() == tmp_path
    monkeypatch.setenv("UQFC_CACHE_DIR", "")
    assert default_directory() is None
    assert Cache().get(KEY) is None
    monkeypatch.delenv("UQFC_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_directory() == tmp_path / "uqfc"
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for relative in ("", "not/absolute"):
        monkeypatch.setenv("XDG_CACHE_HOME", relative)
        assert default_directory() == tmp_path / "home" / ".cache" / "uqfc"
