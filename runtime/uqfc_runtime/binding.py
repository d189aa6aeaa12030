"""Native code behind one interface: a shared object that was checked, or functions in memory."""

from __future__ import annotations

import _ctypes
import ctypes
import os
import tempfile
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from uqfc_runtime.artifact import Artifact
from uqfc_runtime.errors import ArtifactError
from uqfc_runtime.info import ABI_VERSION


class Code(Protocol):
    """The functions of ``uqf.h`` on addresses; they release the GIL and return its status."""

    def run(self, inputs: int, outputs: int, arena: int) -> int:
        """One run on this thread; ``inputs`` and ``outputs`` are those of a ``void *[]``."""
        ...

    def run_team(self, inputs: int, outputs: int, arena: int, team: int, parts: int) -> int:
        """One run with the workers of a team."""
        ...

    def work(self, team: int, part: int, parts: int) -> int:
        """Be a worker until the team ends."""
        ...

    def end_team(self, team: int) -> int:
        """Make the workers return; not 0 while the team is in a run."""
        ...


_INT, _LONG, _POINTER = ctypes.c_int32, ctypes.c_int64, ctypes.c_void_p
_RUN = ctypes.CFUNCTYPE(_INT, _POINTER, _POINTER, _POINTER)
_RUN_TEAM = ctypes.CFUNCTYPE(_INT, _POINTER, _POINTER, _POINTER, _POINTER, _INT)
_WORK = ctypes.CFUNCTYPE(_INT, _POINTER, _INT, _INT)
_END_TEAM = ctypes.CFUNCTYPE(_INT, _POINTER)
_INTERNAL_RUN = ctypes.CFUNCTYPE(
    None, _POINTER, _POINTER, _POINTER, _POINTER, _LONG, _LONG, _POINTER
)
_INTERNAL_RUN_TEAM = ctypes.CFUNCTYPE(None, _POINTER, _POINTER, _POINTER, _POINTER, _POINTER, _LONG)
_INTERNAL_WORK = ctypes.CFUNCTYPE(None, _POINTER, _LONG, _LONG, _POINTER)
_SLACK = 64
"""Readable bytes after the weights: kernels load whole vectors."""


class SharedObject:
    """A loaded artifact. The library is unloaded when the object is garbage collected.

    What is loaded is a private copy of the bytes that were checked: the file may be replaced or
    rewritten meanwhile, and the dynamic loader, which knows libraries by name and inode, cannot
    hand out an older one.
    """

    def __init__(self, artifact: Artifact) -> None:
        library = _load_copy(artifact.body)
        finalizer = weakref.finalize(self, _ctypes.dlclose, library._handle)
        finalizer.atexit = False  # a daemon thread may still be running it
        try:
            version = _function(library, "uqf_abi_version", ctypes.c_uint32)()
            info = _function(library, "uqf_model_info", ctypes.c_char_p)()
            if version == ABI_VERSION:
                self._run = _at(_RUN, library, "uqf_model_run")
                self._run_team = _at(_RUN_TEAM, library, "uqf_model_run_team")
                self._work = _at(_WORK, library, "uqf_model_work")
                self._end_team = _at(_END_TEAM, library, "uqf_model_end_team")
        except AttributeError as error:
            raise ArtifactError(f"not a uqfc model: {error}") from error
        if version != ABI_VERSION:
            raise ArtifactError(f"code has ABI version {version}; this runtime has {ABI_VERSION}")
        if info != artifact.info_json:
            raise ArtifactError("the model info in the code is not the one the trailer points at")

    def run(self, inputs: int, outputs: int, arena: int) -> int:
        return self._run(inputs, outputs, arena)

    def run_team(self, inputs: int, outputs: int, arena: int, team: int, parts: int) -> int:
        return self._run_team(inputs, outputs, arena, team, parts)

    def work(self, team: int, part: int, parts: int) -> int:
        return self._work(team, part, parts)

    def end_team(self, team: int) -> int:
        return self._end_team(team)


@dataclass(frozen=True)
class Addresses:
    """Of the functions of a model in memory; those of a team (see ``uqfc.codegen.team``) may be 0.

    ``run`` is that of ``void uqf_internal_run(inputs, outputs, arena, weights, int64 part, int64
    parts, sync)``.
    """

    run: int
    run_team: int = 0
    work: int = 0
    end_team: int = 0


class InternalFunctions:
    """Functions in memory, called with ``weights``; ``owner`` is kept alive."""

    def __init__(
        self, addresses: Addresses, weights: NDArray[np.uint8] | bytes, owner: object
    ) -> None:
        self._weights = aligned_bytes(len(weights) + _SLACK, 64)
        self._weights[:] = 0
        self._weights[: len(weights)] = np.frombuffer(weights, np.uint8)
        self._weights_address = self._weights.ctypes.data
        self._run = _INTERNAL_RUN(addresses.run)
        self._run_team = _INTERNAL_RUN_TEAM(addresses.run_team)
        self._work = _INTERNAL_WORK(addresses.work)
        self._end_team = _END_TEAM(addresses.end_team)
        self._owner = owner

    def run(self, inputs: int, outputs: int, arena: int) -> int:
        self._run(inputs, outputs, arena, self._weights_address, 0, 1, None)
        return 0

    def run_team(self, inputs: int, outputs: int, arena: int, team: int, parts: int) -> int:
        self._run_team(inputs, outputs, arena, self._weights_address, team, parts)
        return 0

    def work(self, team: int, part: int, parts: int) -> int:
        self._work(team, part, parts, self._weights_address)
        return 0

    def end_team(self, team: int) -> int:
        return self._end_team(team)


def aligned_bytes(size: int, alignment: int) -> NDArray[np.uint8]:
    """Uninitialised bytes [size] whose address is a multiple of ``alignment``."""
    buffer = np.empty(size + alignment, np.uint8)
    start = -buffer.ctypes.data % alignment
    return buffer[start : start + size]


def _load_copy(body: bytes) -> ctypes.CDLL:
    descriptor, path = tempfile.mkstemp(prefix="uqf-", suffix=".so")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(body)
        return ctypes.CDLL(path, mode=os.RTLD_NOW | os.RTLD_LOCAL)
    except OSError as error:
        hint = f"if {tempfile.gettempdir()} is full or not executable, set TMPDIR"
        raise ArtifactError(f"the system cannot load it: {error} ({hint})") from error
    finally:
        Path(path).unlink()


def _at(prototype: Any, library: ctypes.CDLL, name: str) -> Any:
    return prototype(ctypes.cast(library[name], ctypes.c_void_p).value or 0)


def _function(library: ctypes.CDLL, name: str, result: Any) -> Callable[[], Any]:
    function = library[name]
    function.restype = result
    function.argtypes = []
    return function
