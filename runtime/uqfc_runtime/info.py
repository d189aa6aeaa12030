"""The JSON that a model carries about itself, checked before anything is sized by it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import numpy as np

from uqfc_runtime.errors import ArtifactError

ABI_VERSION = 2
"""Version of the C ABI in ``uqf.h`` that this runtime speaks."""

TEAM_BYTES = 256
"""Size of a team of workers, ``UQF_TEAM_BYTES`` of ``uqf.h``."""
MAX_THREADS = 256
"""Most threads that a model is compiled for."""

DTYPES: dict[str, np.dtype[Any]] = {
    name: np.dtype(name) for name in ("float32", "uint8", "int8", "int32", "int64", "bool")
}
MAX_BYTES = 1 << 36
"""Largest arena or tensor that is believed; more is a damaged or hostile file."""

_MIN_ALIGNMENT, _MAX_ALIGNMENT = 64, 4096
_SHA256 = re.compile(r"[0-9a-f]{64}")
_T = TypeVar("_T")


@dataclass(frozen=True)
class TensorInfo:
    """An input or output of the model: dense, row-major."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def __str__(self) -> str:
        return f"{self.dtype.name}{list(self.shape)}"


@dataclass(frozen=True)
class TargetInfo:
    """The device that the model was compiled for."""

    name: str
    triple: str
    isa: str
    cpu_features: tuple[str, ...]


@dataclass(frozen=True)
class LayerInfo:
    """What was decided for one layer, and why; ``None`` where the question does not arise."""

    name: str
    op: str
    weight_dtype: str | None
    activation_dtype: str | None
    kernel: str | None
    requested: str | None
    chosen: str | None
    reason: str | None
    chosen_by: str | None = None
    """How the kernel was chosen among several: ``model`` or ``measured``."""


@dataclass(frozen=True)
class Verification:
    """Recorded result: SHA-256 (hex) of every output for the inputs generated from ``seed``."""

    seed: int
    outputs: Mapping[str, str]


@dataclass(frozen=True)
class ModelInfo:
    """Everything that a model says about itself."""

    name: str
    producer: str
    target: TargetInfo
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    arena_bytes: int
    arena_alignment: int
    weights_bytes: int
    threads: int
    """Most threads that one run may have."""
    quant_strategy: str | None
    layers: tuple[LayerInfo, ...]
    verification: Verification | None
    raw: Mapping[str, Any] = field(repr=False)
    """The whole document, with what is not modelled here (``uqr``)."""


def parse_info(text: bytes | str) -> ModelInfo:
    """Check and read the document. Raises ArtifactError that names the offending field."""
    try:
        raw: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"model info is not valid JSON: {error}") from error
    if not isinstance(raw, dict):
        raise ArtifactError("model info must be a JSON object")
    root = cast("dict[str, Any]", raw)
    abi = _get(root, "abi", int, "info")
    if abi != ABI_VERSION:
        raise ArtifactError(f"model has ABI version {abi}; this runtime speaks {ABI_VERSION}")
    arena = _object(root, "arena", "info")
    alignment = _size(arena, "alignment", "info.arena", _MIN_ALIGNMENT, _MAX_ALIGNMENT)
    if alignment & (alignment - 1):
        raise ArtifactError(f"info.arena.alignment: {alignment} is not a power of two")
    outputs = _tensors(root, "outputs")
    return ModelInfo(
        name=_get(root, "name", str, "info"),
        producer=_get(root, "producer", str, "info"),
        target=_target(_object(root, "target", "info")),
        inputs=_tensors(root, "inputs"),
        outputs=outputs,
        arena_bytes=_size(arena, "bytes", "info.arena"),
        arena_alignment=alignment,
        weights_bytes=_size(root, "weights_bytes", "info"),
        threads=_size(root, "threads", "info", low=1, high=MAX_THREADS),
        quant_strategy=_optional_text(root, "quant_strategy", "info"),
        layers=_layers(root),
        verification=_verification(root, outputs),
        raw=root,
    )


def _get(table: Mapping[str, Any], key: str, kind: type[_T], where: str) -> _T:
    """``table[key]``, which must be exactly of type ``kind`` (a bool is no int)."""
    if key not in table:
        raise ArtifactError(f"{where}.{key} is missing")
    value = table[key]
    if type(value) is not kind:
        raise ArtifactError(f"{where}.{key} must be {kind.__name__}, not {type(value).__name__}")
    return value


def _object(table: Mapping[str, Any], key: str, where: str) -> dict[str, Any]:
    return cast("dict[str, Any]", _get(table, key, dict, where))


def _optional_text(table: Mapping[str, Any], key: str, where: str) -> str | None:
    return None if table.get(key) is None else _get(table, key, str, where)


def _size(
    table: Mapping[str, Any], key: str, where: str, low: int = 0, high: int = MAX_BYTES
) -> int:
    value = _get(table, key, int, where)
    if not low <= value <= high:
        raise ArtifactError(f"{where}.{key}: {value} is not within [{low}, {high}]")
    return value


def _objects(root: Mapping[str, Any], key: str) -> list[tuple[str, dict[str, Any]]]:
    """The list of objects at ``key``, each with its place for error messages."""
    result: list[tuple[str, dict[str, Any]]] = []
    for i, item in enumerate(cast("list[Any]", _get(root, key, list, "info"))):
        if not isinstance(item, dict):
            raise ArtifactError(f"info.{key}[{i}] must be an object")
        result.append((f"info.{key}[{i}]", cast("dict[str, Any]", item)))
    return result


def _target(table: Mapping[str, Any]) -> TargetInfo:
    where = "info.target"
    features = cast("list[Any]", _get(table, "cpu_features", list, where))
    if not all(isinstance(feature, str) for feature in features):
        raise ArtifactError(f"{where}.cpu_features must be a list of strings")
    return TargetInfo(
        name=_get(table, "name", str, where),
        triple=_get(table, "triple", str, where),
        isa=_get(table, "isa", str, where),
        cpu_features=tuple(features),
    )


def _tensors(root: Mapping[str, Any], key: str) -> tuple[TensorInfo, ...]:
    tensors = tuple(_tensor(table, where) for where, table in _objects(root, key))
    if len({tensor.name for tensor in tensors}) != len(tensors):
        raise ArtifactError(f"info.{key}: names are not unique")
    return tensors


def _tensor(table: Mapping[str, Any], where: str) -> TensorInfo:
    dtype = _get(table, "dtype", str, where)
    if dtype not in DTYPES:
        raise ArtifactError(f"{where}.dtype: '{dtype}' is none of {', '.join(DTYPES)}")
    shape = cast("list[Any]", _get(table, "shape", list, where))
    if len(shape) > 32 or not all(type(dim) is int and dim >= 1 for dim in shape):
        raise ArtifactError(f"{where}.shape must be at most 32 integers >= 1")
    tensor = TensorInfo(_get(table, "name", str, where), DTYPES[dtype], tuple(shape))
    if tensor.nbytes > MAX_BYTES:
        raise ArtifactError(f"{where}.shape: more than {MAX_BYTES} bytes")
    return tensor


def _layers(root: Mapping[str, Any]) -> tuple[LayerInfo, ...]:
    optional = (
        "weight_dtype",
        "activation_dtype",
        "kernel",
        "requested",
        "chosen",
        "reason",
        "chosen_by",
    )
    return tuple(
        LayerInfo(
            name=_get(table, "name", str, where),
            op=_get(table, "op", str, where),
            **{key: _optional_text(table, key, where) for key in optional},
        )
        for where, table in _objects(root, "layers")
    )


def _verification(root: Mapping[str, Any], outputs: tuple[TensorInfo, ...]) -> Verification | None:
    if root.get("verification") is None:
        return None
    where = "info.verification"
    table = _object(root, "verification", "info")
    digests = _object(table, "outputs", where)
    if set(digests) != {tensor.name for tensor in outputs}:
        raise ArtifactError(f"{where}.outputs does not name the model's outputs")
    for name, digest in digests.items():
        if not isinstance(digest, str) or not _SHA256.fullmatch(digest):
            raise ArtifactError(f"{where}.outputs.{name} must be a SHA-256 in lower-case hex")
    return Verification(_size(table, "seed", where, high=2**64 - 1), digests)
