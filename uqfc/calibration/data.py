"""Calibration data: from files, images or Python objects to inputs of exactly the model's shapes.

Everything is streamed, a batch at a time; nothing is unpickled. A source is

- a ``.npz`` file with one array per input, named like it, or a ``.npy`` file (one input);
- a directory of images with a ``preprocess.toml`` (see ``uqfc.calibration.images``);
- a mapping of arrays, an array (one input), or any iterable of those, e.g. a data loader.

For an input of shape ``[B, …]`` an array may be ``[n, …]`` (samples; ``n`` need not be a multiple
of ``B``), ``[n, B, …]`` (whole inputs) or ``[…]`` (one sample). If the inputs of a model do not
share a leading dimension, there is no batch to split: arrays are ``shape`` or ``[n, *shape]``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from uqfc.calibration.images import Preprocess, read_images
from uqfc.calibration.npy import NpyStream, check_names, open_npy, open_npz
from uqfc.errors import CalibrationError

Array: TypeAlias = NDArray[Any]
Inputs: TypeAlias = Mapping[str, tuple[tuple[int, ...], Any]]
"""Static shape and dtype of each input of the model, by name."""


@dataclass(frozen=True)
class _Spec:
    """One input; ``sample`` is the shape of one sample, ``batch`` how many make an input."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    batch: int
    sample: tuple[int, ...]

    def count(self, shape: tuple[int, ...], dtype: np.dtype[Any], where: str) -> int:
        """How many samples an array of this shape holds; raises if it fits in no way."""
        if not (dtype.kind == self.dtype.kind and np.can_cast(dtype, self.dtype)):
            raise CalibrationError(
                f"{where}: input '{self.name}' is {dtype}; accepted: {self.dtype}"
                + (" (convert it explicitly)" if dtype.kind in "fiu" else "")
            )
        if shape == self.shape:
            return self.batch
        if shape[1:] == self.sample and len(shape) == len(self.sample) + 1:
            return shape[0]
        if shape[1:] == self.shape and len(shape) == len(self.shape) + 1:
            return shape[0] * self.batch
        if shape == self.sample:
            return 1
        accepted = dict.fromkeys([("n", *self.sample), ("n", *self.shape)])
        raise CalibrationError(
            f"{where}: input '{self.name}' has shape {_show(shape)}; accepted: {_show(self.shape)}"
            + "".join(f", {_show(s)}" for s in accepted)
        )


def _show(shape: Iterable[object]) -> str:
    return f"[{', '.join(map(str, shape))}]"


class CalibrationData:
    """Iterable of dicts: input name to array of exactly the shape and dtype of that input.

    An iteration starts at the beginning of the source (an iterator given as source can only be
    read once). Attributes, valid after an iteration:
        batches: how many dicts were given.
        dropped: samples at the end of the source that did not fill a batch; 0 where the batch is 1.
    """

    def __init__(
        self,
        source: object,
        inputs: Inputs,
        *,
        preprocess: Preprocess | None = None,
        limit: int | None = None,
    ) -> None:
        self.specs = _specs(inputs)
        self.batches = 0
        self.dropped = 0
        self._source = source
        self._preprocess = preprocess
        self._limit = limit

    def __iter__(self) -> Iterator[dict[str, Array]]:
        self.batches = self.dropped = 0
        for batch in islice(self._all(), self._limit):
            self.batches += 1
            yield batch
        if self.batches == 0 and self._limit != 0:
            raise CalibrationError(
                f"calibration data: not one batch of {self.specs[0].batch} sample(s) "
                f"({self.dropped} sample(s) found)"
            )

    def _all(self) -> Iterator[dict[str, Array]]:
        source = self._source
        if isinstance(source, str | Path):
            return self._from_path(Path(source))
        if isinstance(source, Mapping | np.ndarray):
            return self._rebatch(cast("list[object]", [source]))
        if isinstance(source, Iterable):
            return self._rebatch(cast("Iterable[object]", source))
        raise CalibrationError(
            f"calibration data is a {type(source).__name__}; accepted: a path (.npz, .npy, a "
            "directory of images), a mapping of arrays, an array, or an iterable of those"
        )

    def _from_path(self, path: Path) -> Iterator[dict[str, Array]]:
        if path.is_dir():
            only = self._only_input(str(path))
            return self._rebatch(read_images(path, only.sample, only.dtype, self._preprocess))
        if not path.is_file():
            raise CalibrationError(f"{path}: no such file or directory")
        if path.suffix == ".npy":
            only = self._only_input(str(path))
            return self._from_streams(str(path), {only.name: open_npy(path)})
        if path.suffix == ".npz":
            return self._from_streams(str(path), open_npz(path, [s.name for s in self.specs]))
        raise CalibrationError(
            f"{path}: unknown kind of calibration data; accepted: .npz, .npy, a directory of images"
        )

    def _only_input(self, where: str) -> _Spec:
        if len(self.specs) == 1:
            return self.specs[0]
        names = ", ".join(f"'{s.name}'" for s in self.specs)
        raise CalibrationError(
            f"{where}: one unnamed array for a model with inputs {names}; "
            "accepted: a .npz or mappings with an array for each name"
        )

    def _from_streams(
        self, where: str, streams: Mapping[str, NpyStream]
    ) -> Iterator[dict[str, Array]]:
        try:
            shapes = {s.name: streams[s.name].shape for s in self.specs}
            dtypes = {s.name: streams[s.name].dtype for s in self.specs}
            samples = _samples(self.specs, shapes, dtypes, where)
            batches, left = divmod(samples, self.specs[0].batch)
            for _ in range(batches):
                yield {s.name: _exactly(streams[s.name].read(s.shape), s) for s in self.specs}
            self.dropped = left
        finally:
            for stream in streams.values():
                stream.close()

    def _rebatch(self, items: Iterable[object]) -> Iterator[dict[str, Array]]:
        """Concatenate the samples of all items and cut them into batches."""
        size = self.specs[0].batch
        pending: dict[str, Array] = {s.name: np.empty((0, *s.sample), s.dtype) for s in self.specs}
        for i, item in enumerate(items):
            arrays = self._arrays(item, f"calibration item {i}")
            for s in self.specs:
                rows = arrays[s.name].astype(s.dtype, copy=False).reshape(-1, *s.sample)
                held = pending[s.name]
                pending[s.name] = np.concatenate([held, rows]) if len(held) else rows
            held_samples = len(pending[self.specs[0].name])
            used = held_samples - held_samples % size
            for start in range(0, used, size):
                stop = start + size
                yield {s.name: _exactly(pending[s.name][start:stop], s) for s in self.specs}
            pending = {name: rows[used:] for name, rows in pending.items()}
        self.dropped = len(pending[self.specs[0].name])

    def _arrays(self, item: object, where: str) -> dict[str, Array]:
        named: Mapping[str, object]
        if isinstance(item, Mapping):
            named = cast("Mapping[str, object]", item)
        elif isinstance(item, tuple | list | str | bytes):
            kind = type(cast("object", item)).__name__
            raise CalibrationError(
                f"{where} is a {kind}; accepted: an array, or a mapping of input names to arrays "
                "(labels must be left out)"
            )
        else:
            named = {self._only_input(where).name: item}
        names = [s.name for s in self.specs]
        check_names(where, [str(name) for name in named], names)
        arrays: dict[str, Array] = {name: _to_array(named[name], name, where) for name in names}
        shapes = {name: a.shape for name, a in arrays.items()}
        _samples(self.specs, shapes, {name: a.dtype for name, a in arrays.items()}, where)
        return arrays


def iterate(
    source: object,
    inputs: Inputs,
    *,
    preprocess: Preprocess | None = None,
    limit: int | None = None,
) -> CalibrationData:
    """The batches of ``source`` for a model with these ``inputs``, at most ``limit`` of them.

    ``preprocess`` is for a directory of images and replaces its ``preprocess.toml``. Errors in the
    source (names, shapes, dtypes, unreadable files) are CalibrationErrors raised by the iteration.
    """
    return CalibrationData(source, inputs, preprocess=preprocess, limit=limit)


def _specs(inputs: Inputs) -> tuple[_Spec, ...]:
    if not inputs:
        raise CalibrationError("the model has no inputs to calibrate with")
    leading = {shape[0] if shape else None for shape, _ in inputs.values()}
    batch = leading.pop() if len(leading) == 1 else None
    return tuple(
        _Spec(name, tuple(shape), np.dtype(dtype), 1, tuple(shape))
        if batch is None
        else _Spec(name, tuple(shape), np.dtype(dtype), batch, tuple(shape[1:]))
        for name, (shape, dtype) in inputs.items()
    )


def _to_array(value: object, name: str, where: str) -> Array:
    try:
        return np.asarray(value)
    except (TypeError, ValueError) as error:
        raise CalibrationError(f"{where}: input '{name}' is not an array: {error}") from error


def _samples(
    specs: tuple[_Spec, ...],
    shapes: Mapping[str, tuple[int, ...]],
    dtypes: Mapping[str, np.dtype[Any]],
    where: str,
) -> int:
    counts = {s.name: s.count(shapes[s.name], dtypes[s.name], where) for s in specs}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"'{name}' {n}" for name, n in counts.items())
        raise CalibrationError(f"{where}: the inputs have different numbers of samples: {listed}")
    return counts[specs[0].name]


def _exactly(array: Array, spec: _Spec) -> Array:
    return np.ascontiguousarray(array, spec.dtype).reshape(spec.shape)
