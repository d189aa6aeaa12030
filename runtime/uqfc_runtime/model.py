"""A model that can be run: checked inputs in, NumPy arrays out."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from uqfc_runtime.artifact import check_cpu, read_artifact
from uqfc_runtime.binding import (
    Addresses,
    Code,
    InternalFunctions,
    SharedObject,
    aligned_bytes,
)
from uqfc_runtime.errors import ArtifactError, ExecutionError, InputError
from uqfc_runtime.info import LayerInfo, ModelInfo, TensorInfo, parse_info
from uqfc_runtime.team import Team, available_cpus

Array = NDArray[Any]


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
        self._idle: list[_Workspace] = []
        self._lock = Lock()

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
        _check_names(inputs, self._info.inputs, "input")
        arrays = [_input(inputs[tensor.name], tensor) for tensor in self._info.inputs]
        results = self._outputs(out or {}, arrays)
        workspace = self._acquire()
        try:
            workspace.inputs[:] = [_address(array) for array in arrays]
            workspace.outputs[:] = [_address(array) for array in results.values()]
            status = self._entry(workspace.inputs, workspace.outputs, workspace.arena_address)
        finally:
            with self._lock:
                self._idle.append(workspace)
        if status:
            raise ExecutionError(f"{self._info.name}: the model's code returned status {status}")
        return results

    def _outputs(self, out: Mapping[str, Array], inputs: list[Array]) -> dict[str, Array]:
        tensors = self._info.outputs
        if not out:
            return {tensor.name: np.empty(tensor.shape, tensor.dtype) for tensor in tensors}
        _check_names(out, tensors, "output")
        given = [_output(out[tensor.name], tensor) for tensor in tensors if tensor.name in out]
        for i, array in enumerate(given):
            if any(np.may_share_memory(array, other) for other in [*inputs, *given[:i]]):
                raise InputError("an array in `out` shares memory with an input or another output")
        return {
            tensor.name: out[tensor.name]
            if tensor.name in out
            else np.empty(tensor.shape, tensor.dtype)
            for tensor in tensors
        }

    def _acquire(self) -> _Workspace:
        with self._lock:
            if self._idle:
                return self._idle.pop()
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
        self.arena_address = _address(self._arena)
        self.inputs = (ctypes.c_void_p * len(info.inputs))()
        self.outputs = (ctypes.c_void_p * len(info.outputs))()


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


def _address(array: Array) -> int:
    """Of a C-contiguous array; ctypes finds it several times faster where it may write to it."""
    if array.flags.writeable and array.size:
        return ctypes.addressof(ctypes.c_char.from_buffer(array.data))
    return array.__array_interface__["data"][0]


def _check_names(given: Mapping[str, object], tensors: tuple[TensorInfo, ...], kind: str) -> None:
    """Every given name must exist, and every input must be given."""
    expected = [tensor.name for tensor in tensors]
    problems = [f"unknown {kind} '{name}'" for name in given if name not in expected]
    if kind == "input":
        problems += [f"missing {kind} '{name}'" for name in expected if name not in given]
    if problems:
        accepted = ", ".join(f"'{tensor.name}' {tensor}" for tensor in tensors)
        raise InputError(f"{'; '.join(problems)}; the model's {kind}s are: {accepted}")


def _input(value: ArrayLike, tensor: TensorInfo) -> Array:
    try:
        array = np.asarray(value)
    except (ValueError, TypeError) as error:
        raise InputError(f"input '{tensor.name}': not an array: {error}") from error
    _check_tensor(array, tensor, "input")
    flags = array.flags
    if flags.c_contiguous and flags.aligned:
        return array
    return np.require(array, requirements=("C_CONTIGUOUS", "ALIGNED"))


def _output(array: Array, tensor: TensorInfo) -> Array:
    _check_tensor(array, tensor, "output")
    flags = array.flags
    if not (flags.c_contiguous and flags.aligned and flags.writeable):
        raise InputError(f"output '{tensor.name}': `out` must be C-contiguous and writable")
    return array


def _check_tensor(array: Array, tensor: TensorInfo, kind: str) -> None:
    if array.dtype == tensor.dtype and array.shape == tensor.shape:
        return
    raise InputError(
        f"{kind} '{tensor.name}': expected {tensor}, got {array.dtype}{list(array.shape)}"
    )
