"""Native code behind one signature: a shared object that was checked, or a function in memory."""

from __future__ import annotations

import _ctypes
import ctypes
import os
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from uqfc_runtime.artifact import Artifact
from uqfc_runtime.errors import ArtifactError
from uqfc_runtime.info import ABI_VERSION

Entry: TypeAlias = Callable[[Any, Any, int], int]
"""``(inputs: void *[], outputs: void *[], arena address) -> status``; releases the GIL."""

_RUN = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
_INTERNAL_RUN = ctypes.CFUNCTYPE(
    None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p
)
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
            address = ctypes.cast(library.uqf_model_run, ctypes.c_void_p).value
        except AttributeError as error:
            raise ArtifactError(f"not a uqfc model: {error}") from error
        if version != ABI_VERSION:
            raise ArtifactError(f"code has ABI version {version}; this runtime has {ABI_VERSION}")
        if info != artifact.info_json:
            raise ArtifactError("the model info in the code is not the one the trailer points at")
        self._run = _RUN(address or 0)

    def __call__(self, inputs: Any, outputs: Any, arena: int) -> int:
        return self._run(inputs, outputs, arena)


class InternalFunction:
    """``uqf_internal_run`` at ``address``, called with ``weights``; ``owner`` is kept alive."""

    def __init__(self, address: int, weights: NDArray[np.uint8] | bytes, owner: object) -> None:
        self._weights = aligned_bytes(len(weights) + _SLACK, 64)
        self._weights[:] = 0
        self._weights[: len(weights)] = np.frombuffer(weights, np.uint8)
        self._weights_address = self._weights.ctypes.data
        self._run = _INTERNAL_RUN(address)
        self._owner = owner

    def __call__(self, inputs: Any, outputs: Any, arena: int) -> int:
        self._run(inputs, outputs, arena, self._weights_address)
        return 0


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


def _function(library: ctypes.CDLL, name: str, result: Any) -> Callable[[], Any]:
    function = library[name]
    function.restype = result
    function.argtypes = []
    return function
