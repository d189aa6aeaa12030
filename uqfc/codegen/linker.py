"""Finds a linker and makes a freestanding shared object with it."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from uqfc.errors import ToolchainError

_FLAGS = (
    "-shared",
    "--gc-sections",
    "--build-id=none",
    "--hash-style=gnu",
    "--version-script=exports.map",
    "-s",
    "-z",
    "defs",
    "-z",
    "noexecstack",
)
"""Nothing undefined, nothing exported but what is asked for, nothing that varies."""

_TIMEOUT_SECONDS = 600


def link_shared_object(
    objects: Sequence[bytes | bytearray], exports: Sequence[str], architecture: str
) -> bytes:
    """The ELF shared object of ``objects`` that exports ``exports``, and needs no library.

    Linkers are tried in order: the system's, LLVM's, then the ``ziglang`` package. The same
    linker gives the same bytes. Raises ToolchainError if there is none, or all fail.
    """
    found = list(linkers(architecture))
    failures: list[str] = []
    with tempfile.TemporaryDirectory(prefix="uqfc-link-") as name:
        folder = Path(name)
        names = _write_inputs(folder, objects, exports)
        for command in found:
            failure = _run(command, names, folder)
            if failure is None:
                return (folder / "model.so").read_bytes()
            failures.append(f"  {' '.join(command)}: {failure}")
    if failures:
        raise ToolchainError(f"no linker could link for {architecture}:\n" + "\n".join(failures))
    looked_for = ", ".join((*_system_linkers(architecture), "the Python package ziglang"))
    raise ToolchainError(
        f"writing a shared object for {architecture} needs a linker, and none was found; "
        f"looked for: {looked_for}. `pip install ziglang` brings one"
    )


def linkers(architecture: str) -> Iterator[list[str]]:
    """Commands that can link ELF for ``architecture``, those of this machine's system first."""
    for name in _system_linkers(architecture):
        path = shutil.which(name)
        if path is not None:
            yield [path]
    if importlib.util.find_spec("ziglang") is not None:
        yield [sys.executable, "-m", "ziglang", "cc", "-target", f"{architecture}-linux-gnu"]


def _system_linkers(architecture: str) -> tuple[str, ...]:
    native = platform.system() == "Linux" and platform.machine() == architecture
    gnu = f"{architecture}-linux-gnu-"
    own = ("ld", "cc", "gcc", "clang") if native else ()
    return (*own, f"{gnu}ld", f"{gnu}gcc", "ld.lld")


def _write_inputs(
    folder: Path, objects: Sequence[bytes | bytearray], exports: Sequence[str]
) -> list[str]:
    """Write objects and the list of exports; returns the objects' names."""
    script = "{ global: " + " ".join(f"{name};" for name in exports) + " local: *; };\n"
    (folder / "exports.map").write_text(script, encoding="ascii")
    names = [f"{i}.o" for i in range(len(objects))]
    for name, content in zip(names, objects, strict=True):
        (folder / name).write_bytes(content)
    return names


def _run(command: list[str], objects: list[str], folder: Path) -> str | None:
    """Link; None on success, else why it failed. Paths are relative: none enters the output."""
    arguments = [*command, *_arguments(command), "-o", "model.so", *objects]
    try:
        result = subprocess.run(
            arguments,
            cwd=folder,
            env={**os.environ, "LC_ALL": "C"},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if result.returncode == 0 and (folder / "model.so").is_file():
        return None
    return result.stderr.strip()[:2000] or f"exit status {result.returncode}"


def _arguments(command: list[str]) -> list[str]:
    """The flags as a linker takes them, or as a compiler driver hands them on."""
    if Path(command[0]).name.endswith(("ld", "ld.lld")):
        return list(_FLAGS)
    return ["-shared", "-nostdlib", *(f"-Wl,{flag}" for flag in _FLAGS if flag != "-shared")]
