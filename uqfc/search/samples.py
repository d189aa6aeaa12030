"""Labelled samples, by which accuracy is measured."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias, cast
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from uqfc.calibration import iterate
from uqfc.errors import CalibrationError, UqfcError

LABELS = "labels"
"""Name of the labels in an archive or a mapping that holds samples, too."""
Array: TypeAlias = NDArray[Any]
Inputs: TypeAlias = Mapping[str, tuple[tuple[int, ...], Any]]


def labelled(
    data: object, labels: object, inputs: Inputs, limit: int | None = None
) -> tuple[dict[str, Array], NDArray[np.int64]]:
    """Samples by input, [n, …], and their labels [n].

    ``data`` is what calibration data may be; a ``.npz`` or a mapping may hold ``labels``, too.
    ``labels``: whole numbers, as an array or as the path of a ``.npy``, or of a ``.npz`` with an
    array of that name. At most ``limit`` samples. Raises UqfcError for what does not fit together.
    """
    samples, found = split(data)
    found = found if labels is None else read_labels(labels)
    if found is None:
        raise UqfcError(
            "labels are missing: give `labels`, an array 'labels' beside the data, or `evaluate`"
        )
    values = np.asarray(found)
    if values.ndim != 1 or values.dtype.kind not in "iu":
        raise UqfcError(
            f"labels: {values.dtype} of shape {list(values.shape)}; accepted: whole numbers [n]"
        )
    columns: dict[str, list[Array]] = {name: [] for name in inputs}
    for sample in iterate(samples, inputs):
        for name, array in sample.items():
            columns[name].append(array)
    stacked = {name: joined(arrays, inputs[name][0]) for name, arrays in columns.items()}
    count = len(next(iter(stacked.values())))
    if count > len(values) or len(values) - count >= batch_size(inputs):
        raise UqfcError(f"{len(values)} labels for {count} samples")
    kept = count if limit is None else min(limit, count)
    if kept == 0:
        raise UqfcError("there are no labelled samples")
    return {n: x[:kept] for n, x in stacked.items()}, values[:kept].astype(np.int64)


def batch_size(inputs: Inputs) -> int:
    """How many samples one run takes: the dimension that all inputs start with."""
    leading = {shape[0] if shape else 1 for shape, _ in inputs.values()}
    return leading.pop() if len(leading) == 1 else 1


def joined(arrays: list[Array], shape: tuple[int, ...]) -> Array:
    """[samples, …] from inputs of a run each."""
    stacked = np.stack(arrays)
    return stacked.reshape(-1, *shape[1:]) if shape else stacked


def split(data: object) -> tuple[object, object]:
    """The samples, and the labels that came with them or None."""
    if isinstance(data, str | Path) and Path(data).suffix == ".npz":
        arrays = read_archive(Path(data))
        return (arrays, arrays.pop(LABELS)) if LABELS in arrays else (data, None)
    if isinstance(data, Mapping) and LABELS in data:
        rest = dict(cast("Mapping[str, Any]", data))
        return rest, rest.pop(LABELS)
    return cast("object", data), None


def read_labels(labels: object) -> object:
    """The array, or that of a file."""
    if not isinstance(labels, str | Path):
        return labels
    path = Path(labels)
    if path.suffix == ".npz":
        arrays = read_archive(path)
        if LABELS not in arrays:
            raise UqfcError(f"{path}: no array '{LABELS}'; it has {', '.join(arrays)}")
        return arrays[LABELS]
    if path.suffix != ".npy":
        raise UqfcError(f"{path}: unknown kind of labels; accepted: .npy, .npz")
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UqfcError(f"{path}: cannot be read: {error}") from error


def read_archive(path: Path) -> dict[str, Array]:
    """All arrays of a ``.npz``; nothing is unpickled."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise CalibrationError(f"{path}: cannot be read: {error}") from error
