from __future__ import annotations

import json
import platform
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.codegen.toy import make_info
from uqfc_runtime import ArtifactError, UnsupportedCpuError, load
from uqfc_runtime import artifact as artifacts
from uqfc_runtime.artifact import ELF_MACHINES, TRAILER, make_trailer, read_artifact

on_one_file = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def split(path: Path) -> tuple[bytes, bytes]:
    data = path.read_bytes()
    return data[: -TRAILER.size], data[-TRAILER.size :]


def with_info(path: Path, **changes: Any) -> bytes:
    """The artifact with another info, found through a sound trailer."""
    body, _ = split(path)
    text = json.dumps(make_info(**changes)).encode()
    body += text + b"\0"
    return body + make_trailer(body, text)


def refused(folder: Path, data: bytes, kind: type[Exception] = ArtifactError) -> str:
    """The message with which the file is refused."""
    path = folder / "altered.so"
    path.write_bytes(data)
    with pytest.raises(kind) as error:
        load(path)
    assert str(error.value).startswith(str(path))
    return str(error.value)


def test_sound_artifact(artifact: Path) -> None:
    read = read_artifact(artifact)
    assert read.info.name == "toy"
    assert read.info_json in read.body


@given(data=st.data())
@on_one_file
def test_every_flipped_bit_is_noticed(artifact: Path, tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(artifact.read_bytes())
    trailer_first = st.integers(0, 8 * TRAILER.size - 1).map(lambda bit: 8 * len(content) - 1 - bit)
    anywhere = st.integers(0, 8 * len(content) - 1)
    bit = data.draw(trailer_first | anywhere)
    content[bit // 8] ^= 1 << bit % 8
    refused(tmp_path, bytes(content))


@given(data=st.data())
@on_one_file
def test_every_truncation_is_noticed(artifact: Path, tmp_path: Path, data: st.DataObject) -> None:
    content = artifact.read_bytes()
    refused(tmp_path, content[: data.draw(st.integers(0, len(content) - 1))])


@given(st.binary(max_size=300))
@on_one_file
def test_any_other_file_is_refused(tmp_path: Path, content: bytes) -> None:
    refused(tmp_path, content)
    refused(tmp_path, content + b"UQFCBIN1" + content[:48].ljust(48, b"\0"))


def test_appended_bytes_are_noticed(artifact: Path, tmp_path: Path) -> None:
    assert "no trailer" in refused(tmp_path, artifact.read_bytes() + b"\0")


def test_missing_file_and_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "none.so", tmp_path, "a\0b"):
        with pytest.raises(ArtifactError, match=r"no such file|cannot be read"):
            load(path)


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
@on_one_file
def test_trailer_that_points_elsewhere(
    artifact: Path, tmp_path: Path, offset: int, size: int
) -> None:
    body, trailer = split(artifact)
    magic, _, _, digest = TRAILER.unpack(trailer)
    refused(tmp_path, body + TRAILER.pack(magic, offset, size, digest))
    refused(tmp_path, body + TRAILER.pack(magic, offset % len(body), size % 1000, digest))


def test_other_abi(artifact: Path, tmp_path: Path) -> None:
    assert "ABI version 1" in refused(tmp_path, with_info(artifact, abi=1))


def test_missing_cpu_features_are_named(artifact: Path, tmp_path: Path) -> None:
    target = make_info()["target"] | {"cpu_features": ["sse2", "avx9000"], "name": "future"}
    message = refused(tmp_path, with_info(artifact, target=target), UnsupportedCpuError)
    assert "compiled for future" in message
    assert message.endswith("lacks: avx9000")


def test_amx_that_the_system_refuses(
    artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = make_info()["target"] | {"cpu_features": ["amx_tile"], "name": "with_amx"}
    monkeypatch.setattr(artifacts, "cpu_features", lambda: frozenset({"amx_tile"}))
    monkeypatch.setattr(artifacts, "amx_permitted", lambda: False)
    message = refused(tmp_path, with_info(artifact, target=target), UnsupportedCpuError)
    assert "compiled for with_amx" in message
    assert "the operating system does not let this process use it" in message


def test_info_of_another_model(artifact: Path, tmp_path: Path) -> None:
    message = refused(tmp_path, with_info(artifact, arena={"bytes": 1, "alignment": 64}))
    assert "not the one the trailer points at" in message


@pytest.mark.parametrize("system", ["Darwin", "Windows"])
def test_other_operating_system(
    artifact: Path, monkeypatch: pytest.MonkeyPatch, system: str
) -> None:
    monkeypatch.setattr(platform, "system", lambda: system)
    with pytest.raises(ArtifactError, match=f"cannot be loaded on {system}"):
        load(artifact)


def patch(offset: int, layout: str, value: int) -> Callable[[bytearray], None]:
    return lambda body: struct.pack_into(layout, body, offset, value)


@pytest.mark.parametrize(
    ("alter", "expected"),
    [
        (patch(18, "<H", ELF_MACHINES["riscv64"]), "compiled for machine riscv64"),
        (patch(18, "<H", 4711), "compiled for machine 4711"),
        (patch(16, "<H", 1), "not an ELF shared object"),
        (patch(0, "<B", 0), "not an ELF shared object"),
        (patch(4, "<B", 1), "not a 64-bit"),
        (patch(5, "<B", 2), "not a 64-bit"),
        (patch(6, "<B", 9), "the system cannot load it"),
    ],
)
def test_elf_header(
    artifact: Path, tmp_path: Path, alter: Callable[[bytearray], None], expected: str
) -> None:
    body, _ = split(artifact)
    info_json = read_artifact(artifact).info_json
    altered = bytearray(body)
    alter(altered)
    message = refused(tmp_path, bytes(altered) + make_trailer(bytes(altered), info_json))
    assert expected in message
