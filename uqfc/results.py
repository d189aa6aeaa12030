"""Whole results in the cache: what a compilation depends on, and how its result is kept.

A result is found by the SHA-256 of

- the code of uqfc and its runtime, and the versions of Python and of the libraries that compute;
- this machine as far as float arithmetic may depend on it: CPU features, BLAS, numbers of threads;
- the model: nodes, weights (also those in other files), inputs with their resolved shapes, outputs;
- the target's table, and every option;
- the calibration data: name, type, shape and bytes of every array, as calibration would see them.

There is no key, and so no result from the cache, where code of others takes part: passes, ops,
meanings or kernels that are not uqfc's own.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from xdsl.passes import ModulePass

import uqfc_runtime
from uqfc.cache import key_of
from uqfc.codegen.lowering.registry import LOWERINGS
from uqfc.dialects.tensors import Array
from uqfc.frontend import CONVERTERS, ReadModel
from uqfc.interpreter.registry import CONTEXTUAL_MEANINGS, MEANINGS
from uqfc.targets import Target
from uqfc.version import __version__
from uqfc_runtime.cpu import cpu_features

MOST_DATA = 128 << 20
"""Bytes of calibration data that are held to be hashed; with more of it results are not kept."""

_IMPORTED = time.time()
_LIBRARIES = ("llvmlite", "numpy", "onnx", "protobuf", "pydantic", "xdsl")
_THREADS = ("MKL_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_OWN = "uqfc."


class RecordedData:
    """Calibration data that is hashed before it is used. Each iteration gives the same samples.

    What was read is held, since a source may be an iterator, or give other data the next time.
    """

    def __init__(self, data: Iterable[Mapping[str, Array]], limit: int = MOST_DATA) -> None:
        self._rest: Iterator[Mapping[str, Array]] = iter(data)
        self._held: list[Mapping[str, Array]] = []
        self.digest: bytes | None = self._read(limit)
        """Of all samples; None if they are more than ``limit`` bytes, which can be read once."""

    def __iter__(self) -> Iterator[Mapping[str, Array]]:
        return chain(self._held, self._rest)

    @property
    def description(self) -> dict[str, object]:
        """``samples`` and ``data_sha256``; nothing where the data are too many to be hashed."""
        if self.digest is None:
            return {}
        return {"samples": len(self._held), "data_sha256": self.digest.hex()}

    def _read(self, limit: int) -> bytes | None:
        digest = hashlib.sha256()
        for sample in self._rest:
            # A copy: a source may fill the same array again and again.
            self._held.append({name: array.copy() for name, array in sample.items()})
            for name, array in sample.items():
                head = json.dumps([name, array.dtype.str, array.shape])
                digest.update(f"{len(head)} {head}".encode())
                digest.update(np.ascontiguousarray(array).data)
                limit -= array.nbytes
            if limit < 0:
                return None
        return digest.digest()


def result_key(
    model: ReadModel,
    target: Target,
    options: Mapping[str, object],
    passes: Iterable[ModulePass],
    data: RecordedData | None,
) -> str | None:
    """What the result of a compilation is found by; None if it is not to be kept.

    ``options`` are all that have an influence, as JSON values; others are a reason for no key.
    ``passes`` are the user's, which the options must name.
    """
    code = _code()
    own = _only_own_code() and all(type(each).__module__.startswith(_OWN) for each in passes)
    if code is None or not own or (data is not None and data.digest is None):
        return None
    try:
        text = json.dumps(options, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError):
        return None
    table = target.model_dump_json()
    seen = b"" if data is None or data.digest is None else data.digest
    return key_of(["result", code, _environment(), table, text, model.digest(), seen])


def _only_own_code() -> bool:
    registered: list[Callable[..., object]] = [c.convert for c in CONVERTERS.values()]
    for registry in (MEANINGS, CONTEXTUAL_MEANINGS, LOWERINGS):
        registered += registry.values()
    return all(function.__module__.startswith(_OWN) for function in registered)


@cache
def _code() -> str | None:
    """SHA-256 of the source and the tables of uqfc and of its runtime.

    None if a file was changed after it was imported: then it is not what runs.
    """
    parts: list[bytes | str] = [__version__]
    for folder in (Path(__file__).parent, Path(uqfc_runtime.__file__).parent):
        for path in sorted(folder.rglob("*")):
            if path.suffix in {".py", ".toml"}:
                if path.stat().st_mtime > _IMPORTED:
                    return None
                parts += [str(path.relative_to(folder)), path.read_bytes()]
    return key_of(parts)


def _environment() -> str:
    affinity = getattr(os, "sched_getaffinity", None)
    library: Any = np  # the type of show_config's result depends on its argument, unsaid
    return json.dumps(
        [
            platform.python_version(),
            platform.machine(),
            sorted(cpu_features()),
            [version(name) for name in _LIBRARIES],
            library.show_config(mode="dicts").get("Build Dependencies"),
            [os.environ.get(name) for name in _THREADS],
            len(affinity(0)) if affinity else os.cpu_count(),
        ],
        default=str,
    )
