from __future__ import annotations

import platform

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uqfc_runtime import cpu


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "processor\t: 0\nflags\t\t: fpu sse2 avx512_vnni\n\nflags : other",
            "fpu sse2 avx512_vnni",
        ),
        ("Features\t: fp asimd ASIMDDP\n", "fp asimd asimddp"),
        ("model name : flags\n", ""),
        ("", ""),
    ],
)
def test_cpuinfo(text: str, expected: str) -> None:
    assert cpu.parse_cpuinfo(text) == frozenset(expected.split())


def test_sysctl_names_become_those_of_linux() -> None:
    assert cpu.parse_sysctl("FPU SSE4.1 AVX1.0\nAVX2 AVX512VNNI\n") == {
        "fpu",
        "sse4_1",
        "avx",
        "avx2",
        "avx512_vnni",
    }


@given(st.text())
def test_any_cpuinfo_gives_words(text: str) -> None:
    assert all(word and not word.isspace() for word in cpu.parse_cpuinfo(text))


@pytest.mark.parametrize(
    ("machine", "expected"), [("AMD64", "x86_64"), ("arm64", "aarch64"), ("riscv64", "riscv64")]
)
def test_architecture(monkeypatch: pytest.MonkeyPatch, machine: str, expected: str) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert cpu.architecture() == expected


@pytest.mark.parametrize(
    ("system", "machine"), [("Darwin", "x86_64"), ("Linux", "aarch64"), ("Windows", "AMD64")]
)
def test_amx_is_asked_for_on_linux_alone(
    monkeypatch: pytest.MonkeyPatch, system: str, machine: str
) -> None:
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert not cpu.amx_permitted.__wrapped__()


def test_amx_is_not_permitted_where_there_is_none() -> None:
    if cpu.AMX in cpu.cpu_features():
        pytest.skip("this CPU has AMX")
    assert not cpu.amx_permitted()


@pytest.mark.skipif(platform.system() != "Linux", reason="reads /proc/cpuinfo")
@pytest.mark.skipif(cpu.architecture() != "x86_64", reason="every x86-64 CPU has SSE2")
def test_this_machine() -> None:
    assert "sse2" in cpu.cpu_features()
