"""A model that can be run: checked inputs in, NumPy arrays out."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from uqfc_runtime.arrays import (
    Array,
    address_of,
    as_inputs,
    as_outputs,
    check_names,
    overlap,
)
from uqfc_runtime.artifact import check_cpu, read_artifact
from uqfc_runtime.binding import (
    Addresses,
    Code,
    InternalFunctions,
    SharedObject,
    aligned_bytes,
)
from uqfc_runtime.errors import ArtifactError, ExecutionError, InputError
from uqfc_runtime.info import LayerInfo, ModelInfo, parse_info
from uqfc_runtime.team import Team, available_cpus


class Model:
    """Native code with what it says about itself. Safe to call from many threads at once.

    Each concurrent caller gets its own arena; arenas are kept and reused, so that a call
    allocates nothing but its output arrays, and not even these if it is given ``out``.

    With ``threads`` above 1, a call is helped by a team of workers, which are started with the
    first call. While they help one caller, others run on their own thread. Results do not depend
    on any of this.
    """

    def __init__(self, info: ModelInfo, code: Code, threads: int | None = None) -> None:
        self._info = info
        self._threads = _threads(info, threads)
        self._entry = code.run if self._threads == 1 else Team(code, self._threads).run
        self._input_names = {tensor.name for tensor in info.inputs}
        self._output_names = {tensor.name for tensor in info.outputs}
        self._idle: list[_Workspace] = []

    @classmethod
    def load(cls, path: str | Path, *, threads: int | None = None) -> Model:
        """Load an artifact. Raises ArtifactError; nothing is executed before all checks passed.

        ``threads`` of one call: at most those that the model was compiled for, else InputError; by
        default that many, or as many as this process has CPUs.
        """
        artifact = read_artifact(path)
        try:
            return cls(artifact.info, SharedObject(artifact), threads)
        except ArtifactError as error:
            raise ArtifactError(f"{path}: {error}") from error

    @classmethod
    def from_functions(
        cls,
        addresses: Addresses,
        info: bytes | str,
        weights: NDArray[np.uint8] | bytes = b"",
        owner: object = None,
        threads: int | None = None,
    ) -> Model:
        """A model in memory, e.g. compiled just in time.

        ``info`` is the JSON document; ``weights`` [bytes] are copied to aligned memory; ``owner``
        is what must live as long as the code; ``threads``: see ``load``. Raises ArtifactError for
        a bad document or a lesser CPU.
        """
        parsed = parse_info(info)
        check_cpu(parsed)
        return cls(parsed, InternalFunctions(addresses, weights, owner), threads)

    @property
    def info(self) -> ModelInfo:
        """Inputs, outputs, target, arena, decisions; ``info.raw`` is the whole document."""
        return self._info

    @property
    def threads(self) -> int:
        """Threads of one call, the caller's included."""
        return self._threads

    @property
    def layers(self) -> tuple[LayerInfo, ...]:
        """What was decided for each layer, and why."""
        return self._info.layers

    def __repr__(self) -> str:
        inputs = ", ".join(f"{t.name}: {t}" for t in self._info.inputs)
        outputs = ", ".join(f"{t.name}: {t}" for t in self._info.outputs)
        return f"<Model {self._info.name} ({inputs}) -> ({outputs}) for {self._info.target.name}>"

    def __call__(self, x: ArrayLike) -> Array | dict[str, Array]:
        """Run a model of one input: its output, or a dict by name if it has several."""
        if len(self._info.inputs) != 1:
            names = ", ".join(t.name for t in self._info.inputs)
            raise InputError(f"model has {len(self._info.inputs)} inputs ({names}): use run({{…}})")
        results = self.run({self._info.inputs[0].name: x})
        return results[self._info.outputs[0].name] if len(results) == 1 else results

    def run(
        self, inputs: Mapping[str, ArrayLike], out: Mapping[str, Array] | None = None
    ) -> dict[str, Array]:
        """Run the model; returns the outputs by name, as dense row-major arrays.

        Inputs must have exactly the model's dtypes and shapes; non-contiguous ones are copied.
        ``out`` gives arrays to write to: exact dtype and shape, C-contiguous, writable, sharing
        no memory with an input or each other; outputs not named in it are allocated. Raises
        InputError, or ExecutionError if the arena cannot be allocated.
        """
        if set(inputs) != self._input_names:
            check_names(inputs, self._info.inputs, "input")
        _alive, sources = as_inputs(inputs, self._info.inputs)  # copies, until the code has run
        given = out or {}
        if not given.keys() <= self._output_names:
            check_names(given, self._info.outputs, "output")
        results, targets = as_outputs(given, self._info.outputs)
        if given and overlap(sources + targets):
            raise InputError("an array in `out` shares memory with an input or another output")
        workspace = self._acquire()
        try:
            for place, (start, _, _) in enumerate(sources):
                workspace.inputs[place] = start
            for place, (start, _, _) in enumerate(targets):
                workspace.outputs[place] = start
            status = self._entry(*workspace.addresses)
        finally:
            self._idle.append(workspace)
        if status:
            raise ExecutionError(f"{self._info.name}: the model's code returned status {status}")
        return results

    def _acquire(self) -> _Workspace:
        """An idle one, or a new one; ``pop`` and ``append`` need no lock."""
        try:
            return self._idle.pop()
        except IndexError:
            return _Workspace(self._info)


class _Workspace:
    """What one caller needs: the arena and the two arrays of pointers."""

    def __init__(self, info: ModelInfo) -> None:
        try:
            self._arena = aligned_bytes(info.arena_bytes, info.arena_alignment)
        except MemoryError as error:
            raise ExecutionError(
                f"{info.name}: cannot allocate an arena of {info.arena_bytes} bytes"
            ) from error
        self.inputs = (ctypes.c_void_p * len(info.inputs))()
        self.outputs = (ctypes.c_void_p * len(info.outputs))()
        tables = ctypes.addressof(self.inputs), ctypes.addressof(self.outputs)
        self.addresses = (*tables, address_of(self._arena))
        """Of the inputs' addresses, of the outputs' addresses, and of the arena."""


def load(path: str | Path, *, threads: int | None = None) -> Model:
    """Load an artifact; see ``Model.load``."""
    return Model.load(path, threads=threads)


def _threads(info: ModelInfo, wanted: int | None) -> int:
    """Threads of one call; InputError if the model was compiled for fewer than are wanted."""
    if wanted is None:
        return min(info.threads, available_cpus())
    if not 1 <= wanted <= info.threads:
        raise InputError(
            f"{info.name}: {wanted} threads, but it was compiled for 1 to {info.threads}"
        )
    return wanted
