"""Replaying recorded vectors: does this machine compute the bits that were recorded?

Inputs are not stored but generated from a 64-bit seed with SplitMix64 (Steele, Lea and Flood,
"Fast splittable pseudorandom number generators", OOPSLA 2014), integer arithmetic modulo 2^64:

    mix(z): z ^= z >> 30; z *= 0xBF58476D1CE4E5B9; z ^= z >> 27; z *= 0x94D049BB133111EB;
            z ^= z >> 31
    h(i, e) = mix(mix(seed + i) + (e + 1) * 0x9E3779B97F4A7C15)

for element ``e`` (row-major) of input number ``i``, which becomes

    float32        ((h >> 40) - 2^23) / 2^23: uniform in [-1, 1), exact
    uint8, int8    the top byte of h
    int32, int64   h >> 63, i.e. 0 or 1: often an index, and valid in any table of two rows
    bool           h >> 63

An output is recorded as the SHA-256 of its elements, row-major, little-endian.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uqfc_runtime.errors import ArtifactError
from uqfc_runtime.info import ModelInfo, TensorInfo, Verification
from uqfc_runtime.model import Model

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MASK = 2**64 - 1


@dataclass(frozen=True)
class OutputCheck:
    """Recorded and computed digest of one output."""

    name: str
    expected: str
    actual: str

    @property
    def ok(self) -> bool:
        return self.expected == self.actual


@dataclass(frozen=True)
class VerificationReport:
    """Result of ``verify``; ``ok`` if every output has the recorded bits."""

    model: str
    seed: int
    outputs: tuple[OutputCheck, ...]

    @property
    def ok(self) -> bool:
        return all(check.ok for check in self.outputs)

    def __str__(self) -> str:
        lines = [f"{self.model}: {'same bits' if self.ok else 'DIFFERENT BITS'} (seed {self.seed})"]
        for check in self.outputs:
            outcome = "ok" if check.ok else f"expected {check.expected}, got {check.actual}"
            lines.append(f"  {check.name}: {outcome}")
        return "\n".join(lines)


def verify(model: Model | str | Path) -> VerificationReport:
    """Run a model (or the artifact at a path) on its recorded seed and compare the outputs' bits.

    Raises ArtifactError where the artifact cannot be loaded or records nothing.
    """
    loaded = model if isinstance(model, Model) else Model.load(model)
    recorded = loaded.info.verification
    if recorded is None:
        raise ArtifactError(f"{loaded.info.name}: no verification vectors were recorded in it")
    actual = record(loaded, recorded.seed).outputs
    checks = tuple(
        OutputCheck(name, expected, actual[name]) for name, expected in recorded.outputs.items()
    )
    return VerificationReport(loaded.info.name, recorded.seed, checks)


def record(model: Model, seed: int) -> Verification:
    """Run the model on the inputs of ``seed``: what goes into the model info."""
    outputs = model.run(verification_inputs(model.info, seed))
    return Verification(seed, {name: digest(array) for name, array in outputs.items()})


def verification_inputs(info: ModelInfo, seed: int) -> dict[str, NDArray[Any]]:
    """The inputs of a model for a seed (0 <= seed < 2^64), by name."""
    return {tensor.name: generate(tensor, seed, i) for i, tensor in enumerate(info.inputs)}


def generate(tensor: TensorInfo, seed: int, index: int) -> NDArray[Any]:
    """Input number ``index`` for a seed, as the module's docstring defines it."""
    count = tensor.nbytes // tensor.dtype.itemsize
    start = _mix(np.array([(seed + index) & _MASK], np.uint64))
    hashes = _mix(start + np.arange(1, count + 1, dtype=np.uint64) * _GAMMA)
    return _as_dtype(hashes, tensor.dtype).reshape(tensor.shape)


def digest(array: NDArray[Any]) -> str:
    """SHA-256, in hex, of the elements in row-major order and little-endian."""
    little_endian = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return hashlib.sha256(little_endian.tobytes()).hexdigest()


def _mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _as_dtype(hashes: NDArray[np.uint64], dtype: np.dtype[Any]) -> NDArray[Any]:
    if dtype == np.float32:
        centred = (hashes >> np.uint64(40)).astype(np.int64) - 2**23
        return centred.astype(np.float32) * np.float32(2.0**-23)
    if dtype.itemsize == 1 and dtype != np.bool_:
        return (hashes >> np.uint64(56)).astype(np.uint8).view(dtype)
    return (hashes >> np.uint64(63)).astype(dtype)
