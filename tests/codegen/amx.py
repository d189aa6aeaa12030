"""AMX for tests: the CPU's own, or ``amx_emulator.c`` in this process."""

from __future__ import annotations

import ctypes
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

from uqfc import targets
from uqfc.codegen.isa import AMX
from uqfc_runtime import artifact
from uqfc_runtime.cpu import amx_permitted, architecture, cpu_features

SOURCE = Path(__file__).with_name("amx_emulator.c")
TILE_FEATURES = {"amx_tile", "amx_int8"}
_KINDS = 6


@dataclass(frozen=True)
class Counts:
    """AMX instructions that were executed."""

    configure: int
    release: int
    zero: int
    load: int
    store: int
    dot: int


def native() -> bool:
    """Whether this CPU has AMX and the system lets us use it."""
    return cpu_features() >= TILE_FEATURES and amx_permitted()


@cache
def why_not() -> str | None:
    """Why AMX code cannot run here, or None; installs the emulator where it is needed."""
    missing = set(AMX.required) - TILE_FEATURES - cpu_features()
    if architecture() != "x86_64" or missing:
        return f"no {', '.join(sorted(missing)) or 'x86-64'} here"
    if native():
        return None
    if platform.system() != "Linux" or emulator() is None:
        return "no AMX here, and no C compiler for its emulator"
    return None


@cache
def emulator() -> Any | None:
    """The emulator, installed in this process; None without a C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "amx_emulator.so"
        options = ["-O3", "-march=x86-64-v4", "-shared", "-fPIC"]
        subprocess.run([compiler, *options, "-o", str(library), str(SOURCE)], check=True)
        loaded: Any = ctypes.CDLL(str(library))
    if loaded.amx_emulator_install() != 0:
        raise OSError("cannot install a handler of SIGILL")
    return loaded


@contextmanager
def emulated() -> Generator[None]:
    """In it, models for AMX are loaded and run wherever the emulator can be."""
    if why_not() is not None or native():
        yield
        return
    features = cpu_features() | TILE_FEATURES
    with (
        patch.object(targets, "cpu_features", lambda: features),
        patch.object(artifact, "cpu_features", lambda: features),
        patch.object(targets, "amx_permitted", lambda: True),
        patch.object(artifact, "amx_permitted", lambda: True),
    ):
        yield


def executed() -> Counts | None:
    """What the emulator executed since the last call; None on a CPU that has AMX."""
    library = None if native() else emulator()
    if library is None:
        return None
    numbers = (ctypes.c_longlong * _KINDS)()
    library.amx_emulator_counts(numbers)
    return Counts(*numbers)
