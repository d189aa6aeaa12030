from __future__ import annotations

import importlib.util
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.codegen import toy
from uqfc.codegen import linker
from uqfc.codegen.artifact import encode_info, write_object_file, write_shared_object
from uqfc.codegen.header import header_text
from uqfc.errors import ToolchainError, UqfcError
from uqfc.targets import Target
from uqfc_runtime import ArtifactError, load
from uqfc_runtime.artifact import ELF_MACHINES
from uqfc_runtime.info import parse_info

needs_nm = pytest.mark.skipif(shutil.which("nm") is None, reason="no nm on this machine")
needs_zig = pytest.mark.skipif(
    importlib.util.find_spec("ziglang") is None, reason="the package ziglang is not installed"
)
RUNTIME = Path(__file__).parents[2] / "runtime"


def write(path: Path, target: Target = toy.TARGET, **changes: Any) -> bytes:
    info = toy.make_info(**changes)
    write_shared_object(path, [toy.toy_object(target)], toy.WEIGHTS, info, target)
    return path.read_bytes()


def symbols(path: Path, *options: str) -> dict[str, str]:
    """Names and types of symbols as nm prints them."""
    output = subprocess.run(["nm", *options, path], capture_output=True, text=True, check=True)
    lines = [line.split() for line in output.stdout.splitlines()]
    return {fields[-1]: fields[-2] for fields in lines}


@toy.needs_linker
def test_shared_object_is_reproducible(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    first = write(tmp_path / "a" / "x.so")
    assert first == write(tmp_path / "y.so")
    assert b"uqfc-" not in first
    assert str(tmp_path).encode() not in first


@toy.needs_linker
@needs_nm
def test_shared_object_exports_the_abi_and_needs_nothing(tmp_path: Path) -> None:
    write(tmp_path / "x.so")
    assert symbols(tmp_path / "x.so", "-D") == {
        "uqf_model_info": "T",
        "uqf_abi_version": "T",
        "uqf_model_run": "T",
        "uqf_model_run_part": "T",
        "uqf_model_work": "T",
        "uqf_model_run_team": "T",
        "uqf_model_end_team": "T",
    }


@toy.needs_linker
def test_runs_with_every_linker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = list(linker.linkers("x86_64"))
    for i, command in enumerate(commands):
        monkeypatch.setattr(linker, "linkers", lambda _, command=command: iter([command]))
        first = write(tmp_path / f"{i}.so")
        assert first == write(tmp_path / f"{i}.so")
        inputs = toy.toy_inputs(i)
        outputs = load(tmp_path / f"{i}.so").run(inputs)
        np.testing.assert_array_equal(
            outputs["y"], inputs["x"].reshape(-1) * np.float32(toy.FACTOR)
        )


@needs_zig
def test_links_for_another_architecture(tmp_path: Path) -> None:
    table = toy.TARGET.model_dump() | {
        "triple": "aarch64-unknown-linux-gnu",
        "cpu": "generic",
        "isa": "portable",
    }
    data = write(tmp_path / "x.so", Target.model_validate(table))
    assert int.from_bytes(data[18:20], "little") == ELF_MACHINES["aarch64"]
    if platform.machine() == "x86_64":
        with pytest.raises(ArtifactError, match="compiled for machine aarch64; this machine is"):
            load(tmp_path / "x.so")


def test_without_a_linker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ToolchainError) as error:
        write(tmp_path / "x.so")
    for name in ("ld", "gcc", "clang", "ld.lld", "ziglang"):
        assert name in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_failing_linkers_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = [[sys.executable, "-c", "raise SystemExit('no such luck')"], ["/no/such/ld"]]
    monkeypatch.setattr(linker, "linkers", lambda _: iter(bad))
    path = tmp_path / "x.so"
    path.write_bytes(b"older")
    with pytest.raises(ToolchainError, match=r"(?s)no such luck.*/no/such/ld"):
        write(path)
    assert path.read_bytes() == b"older"
    assert list(tmp_path.iterdir()) == [path]


@toy.needs_linker
def test_undefined_symbols_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ToolchainError, match="uqf_internal_run"):
        write_shared_object(tmp_path / "x.so", [], toy.WEIGHTS, toy.make_info(), toy.TARGET)


@toy.needs_linker
@pytest.mark.parametrize("name", ["no/such/folder/x.so", "."])
def test_unwritable_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(UqfcError, match="cannot be written"):
        write(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_info_that_the_runtime_refuses_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"info\.arena"):
        write(tmp_path / "x.so", arena=None)
    assert list(tmp_path.iterdir()) == []


def test_info_is_ascii_and_keeps_its_order() -> None:
    name = 'naïve "model" \0 */ \\ 模型'
    text = encode_info(toy.make_info(name=name))
    assert text.startswith(b'{"abi":2,"producer":')
    assert text.isascii()
    assert b"\0" not in text


@toy.needs_linker
def test_any_name_survives(tmp_path: Path) -> None:
    name = 'naïve "model" \0 */ \\ 模型'
    write(tmp_path / "x.so", name=name)
    assert load(tmp_path / "x.so").info.name == name


def write_object(path: Path, prefix: str, **changes: Any) -> Path:
    info = toy.make_info(**changes)
    return write_object_file(path, [toy.KERNELS_IR], toy.WEIGHTS, info, toy.TARGET, prefix)


def test_object_file_is_reproducible(tmp_path: Path) -> None:
    for name in "ab":
        write_object(tmp_path / f"{name}.o", "net")
    assert (tmp_path / "a.o").read_bytes() == (tmp_path / "b.o").read_bytes()
    assert (tmp_path / "a.h").read_text() == (tmp_path / "b.h").read_text()


@needs_nm
def test_object_file_has_the_abi_as_global_symbols(tmp_path: Path) -> None:
    write_object(tmp_path / "net.o", "net")
    assert symbols(tmp_path / "net.o", "-g") == {
        "net_info": "T",
        "net_abi_version": "T",
        "net_run": "T",
        "net_run_part": "T",
        "net_work": "T",
        "net_run_team": "T",
        "net_end_team": "T",
        "memcpy": "U",
        "memmove": "U",
        "memset": "U",
    }


@pytest.mark.parametrize("prefix", ["", "1st", "a-b", "a b", "ä", "x" * 65, "a;"])
def test_prefix_must_be_an_identifier(tmp_path: Path, prefix: str) -> None:
    with pytest.raises(UqfcError, match="not a C identifier"):
        write_object(tmp_path / "net.o", prefix)
    assert list(tmp_path.iterdir()) == []


def test_object_files_name(tmp_path: Path) -> None:
    with pytest.raises(UqfcError, match=r"must end in '\.o'"):
        write_object(tmp_path / "net.h", "net")


def cc(folder: Path, *arguments: str | Path) -> None:
    """Compile strictly in ``folder``."""
    strict = ["-std=c11", "-Wall", "-Wextra", "-pedantic", "-Werror"]
    subprocess.run(["cc", *strict, *arguments], cwd=folder, check=True, timeout=60)


def output_lines(y: bytes, z: bytes) -> list[str]:
    return [f"output {i}: {value.hex(' ')}" for i, value in enumerate((y, z))]


@toy.needs_linker
@toy.needs_cc
def test_c_example_with_a_shared_object(tmp_path: Path) -> None:
    write(tmp_path / "toy.so")
    cc(tmp_path, RUNTIME / "examples/run_model.c", "-I", RUNTIME / "include", "-ldl", "-o", "run")
    command = [tmp_path / "run", tmp_path / "toy.so", "160", "160,1", "160,1"]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    info, *outputs = result.stdout.splitlines()
    assert info.encode() == encode_info(toy.make_info())
    assert outputs == output_lines(bytes(160), b"\1")


@toy.needs_cc
def test_c_example_with_an_object_file(tmp_path: Path) -> None:
    write_object(tmp_path / "toy.o", "toy")
    macros = ['-DMODEL_HEADER="toy.h"', "-DMODEL=toy", "-DMODEL_MACRO=TOY", "-I."]
    cc(tmp_path, *macros, RUNTIME / "examples/run_model.c", "toy.o", "-o", "run")
    result = subprocess.run([tmp_path / "run"], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[1:] == output_lines(bytes(160), b"\1")


@toy.needs_cc
def test_two_models_in_one_program_and_hostile_names_in_a_header(tmp_path: Path) -> None:
    names = {"a": "*/ int x; /*", "b": '"\n#error ??/ \\'}
    for prefix, name in names.items():
        outputs = toy.make_info()["outputs"]
        outputs[0]["name"] = name
        write_object(tmp_path / f"{prefix}.o", prefix, name=name, outputs=outputs)
    (tmp_path / "main.c").write_text(
        '#include "a.h"\n#include "b.h"\n'
        "int main(void) { return (int)(a_abi_version() - b_abi_version()); }\n"
    )
    cc(tmp_path, "main.c", "a.o", "b.o", "-o", "main")
    subprocess.run([tmp_path / "main"], check=True, timeout=60)


def test_the_header_of_a_model_with_amx_says_what_it_needs() -> None:
    for isa, needed in (("amx", True), ("vnni512", False)):
        target = toy.make_info()["target"] | {"isa": isa}
        text = header_text(parse_info(encode_info(toy.make_info(target=target))), "toy")
        assert ("uqf_request_amx" in text) == needed


@toy.needs_linker
@pytest.mark.slow
def test_weights_of_150_megabytes_need_less_than_a_gigabyte(tmp_path: Path) -> None:
    script = f"""
from pathlib import Path
from tests.codegen import toy
from uqfc.codegen.artifact import write_shared_object
weights = toy.WEIGHTS + bytes(150_000_000)
info = toy.make_info(weights_bytes=len(weights))
write_shared_object({str(tmp_path / "big.so")!r}, [toy.toy_object()], weights, info, toy.TARGET)
(peak,) = (line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)
assert int(peak.split()[1]) < 1_000_000
"""
    root = RUNTIME.parent
    path = [str(root), str(RUNTIME)]
    environment = {"PYTHONPATH": ":".join(path), "PATH": "/usr/bin:/bin", "TMPDIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment, cwd=root)
    inputs = toy.toy_inputs(9)
    outputs = load(tmp_path / "big.so").run(inputs)
    np.testing.assert_array_equal(outputs["y"], inputs["x"].reshape(-1) * np.float32(toy.FACTOR))
