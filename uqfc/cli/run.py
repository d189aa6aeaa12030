"""``uqfc run``: a binary on arrays from a file."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import numpy as np
import typer
from numpy.typing import NDArray

import uqfc_runtime
from uqfc.cli.console import say
from uqfc.errors import InputError, UqfcError

_UNREADABLE = (
    EOFError,
    MemoryError,
    NotImplementedError,
    OSError,
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
)

Binary = Annotated[Path, typer.Argument(help="A shared object that `uqfc compile` wrote.")]


def run(
    binary: Binary,
    source: Annotated[
        Path, typer.Option("--input", "-i", help=".npz with an array for each input, by name.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help=".npz to write: an array for each output.")
    ],
) -> None:
    """Run a binary on the arrays of a .npz file."""
    if output.suffix != ".npz":
        raise UqfcError(f"{output}: an output's name ends in .npz")
    model = uqfc_runtime.load(binary)
    results = model.run(read_arrays(source))
    _write_arrays(output, results)
    say(f"{output}: " + ", ".join(f"{name} {list(a.shape)}" for name, a in results.items()))


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a .npz file, by name; nothing is unpickled. Raises InputError."""
    try:
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise InputError(f"{path}: one unnamed array; accepted: .npz (numpy.savez)")
            return {name: archive[name] for name in archive.files}
    except _UNREADABLE as error:
        raise InputError(f"{path}: not a readable .npz file: {error}") from error


def _write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write a .npz file completely or not at all."""
    temporary = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        with temporary.open("xb") as file:
            np.savez(file, allow_pickle=False, **arrays)
        temporary.replace(path)
    except OSError as error:
        raise UqfcError(f"{path}: cannot be written: {error}") from error
    finally:
        with suppress(OSError):  # what is in the way of the file is in the way of removing it
            temporary.unlink()
