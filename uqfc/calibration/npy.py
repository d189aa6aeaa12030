"""Reading ``.npy`` and ``.npz`` files front to back without holding an array in memory."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from uqfc.errors import CalibrationError


class NpyStream:
    """The elements of a ``.npy`` file in order. Objects are refused: nothing is unpickled."""

    def __init__(self, file: IO[bytes], where: str, owner: zipfile.ZipFile | None = None) -> None:
        self._file, self._where, self._owner = file, where, owner
        try:
            self.shape, fortran, self.dtype = _read_header(file)
        except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
            self.close()
            raise CalibrationError(f"{where}: not a .npy array: {error}") from error
        if self.dtype.hasobject or (fortran and len(self.shape) > 1):
            self.close()
            problem = "holds Python objects" if self.dtype.hasobject else "is in Fortran order"
            raise CalibrationError(f"{where}: {problem}; accepted: numeric arrays in C order")

    def read(self, shape: tuple[int, ...]) -> NDArray[Any]:
        """The next ``prod(shape)`` elements, of the file's dtype."""
        size = math.prod(shape) * self.dtype.itemsize
        try:
            data = self._file.read(size)
        except (OSError, EOFError, ValueError, zipfile.BadZipFile, zipfile.error) as error:
            raise CalibrationError(f"{self._where}: {error}") from error
        if len(data) != size:
            raise CalibrationError(
                f"{self._where}: the file ends before the array {list(self.shape)} does"
            )
        return np.frombuffer(data, self.dtype).reshape(shape)

    def close(self) -> None:
        self._file.close()
        if self._owner is not None:
            self._owner.close()


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = npy_format.read_magic(file)
    if version == (1, 0):
        return npy_format.read_array_header_1_0(file)
    if version == (2, 0):
        return npy_format.read_array_header_2_0(file)
    raise ValueError(f"format version {version[0]}.{version[1]}")


def open_npy(path: Path) -> NpyStream:
    """A stream of the array in a ``.npy`` file."""
    try:
        return NpyStream(path.open("rb"), str(path))
    except OSError as error:
        raise CalibrationError(f"{path}: {error}") from error


def open_npz(path: Path, names: Sequence[str]) -> dict[str, NpyStream]:
    """A stream of each array of a ``.npz`` file, whose names must be exactly ``names``."""
    streams: dict[str, NpyStream] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            check_names(str(path), [n.removesuffix(".npy") for n in archive.namelist()], names)
        for name in names:
            # One archive object each: members of one that are read in turns would share a lock.
            archive = zipfile.ZipFile(path)
            member = archive.open(f"{name}.npy")
            streams[name] = NpyStream(member, f"{path}: array '{name}'", archive)
    except (OSError, KeyError, NotImplementedError, RuntimeError, zipfile.BadZipFile) as error:
        raise CalibrationError(f"{path}: not a readable .npz file: {error}") from error
    return streams


def check_names(where: str, given: Sequence[str], accepted: Sequence[str]) -> None:
    """Raise CalibrationError unless both are the same names, in any order."""
    if sorted(given) == sorted(accepted):
        return
    missing = [n for n in accepted if n not in given]
    extra = [n for n in given if n not in accepted]
    what = [f"no array for input {_quoted(missing)}"] if missing else []
    what += [f"no input is called {_quoted(extra)}"] if extra else []
    raise CalibrationError(
        f"{where}: {'; '.join(what) or 'a name occurs twice'}; accepted: one array for each of "
        + _quoted(accepted)
    )


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
