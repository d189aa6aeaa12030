"""Files that are slow to make, kept in build/benchmarks: quantized peers, compiled models."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.workloads import Workload

ROOT = Path(__file__).resolve().parents[1]
VARIABLE = "UQFC_BENCHMARK_CACHE"
"""Environment variable that overrides the directory."""


def cache_directory() -> Path:
    """Made if it is not there."""
    override = os.environ.get(VARIABLE)
    directory = Path(override) if override else ROOT / "build/benchmarks"
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def cached(
    workload: Workload,
    kind: str,
    suffix: str,
    make: Callable[[Workload, Path], None],
    version: str = "",
) -> Path:
    """The file that ``make(workload, path)`` writes, once for the same model, data and version.

    ``make`` may write other files beside it. The files of other versions are removed.
    """
    digest = hashlib.sha256(workload.model.read_bytes())
    digest.update(repr(workload.shape).encode())
    digest.update(workload.data.tobytes())
    digest.update(version.encode())
    stem = f"{workload.name}-{kind}-"
    directory = cache_directory() / f"{stem}{digest.hexdigest()[:16]}"
    path = directory / f"model{suffix}"
    if not path.is_file():
        with tempfile.TemporaryDirectory(dir=cache_directory()) as temporary:
            whole = Path(temporary) / "whole"
            whole.mkdir()
            make(workload, whole / path.name)
            for stale in cache_directory().glob(f"{stem}*"):
                shutil.rmtree(stale)
            whole.rename(directory)
    return path


def source_digest() -> str:
    """Of the compiler: what it compiles is stale when its sources changed."""
    digest = hashlib.sha256()
    for path in sorted((ROOT / "uqfc").rglob("*.py")) + sorted((ROOT / "uqfc").rglob("*.toml")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
