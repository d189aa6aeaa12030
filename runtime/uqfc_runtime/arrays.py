"""Arrays of a caller: whether they are what a model takes, and where they are in memory.

A call of a small model takes as long as this does: each step was chosen for its time.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from uqfc_runtime.errors import InputError
from uqfc_runtime.info import TensorInfo

Array = NDArray[Any]
Span: TypeAlias = tuple[int, int, bool]
"""From an address to the one after the last byte, and whether the model writes there."""

_addressof = ctypes.addressof
_byte_in: Any = ctypes.c_char.from_buffer  # takes arrays, which its stub does not say


def check_names(given: Mapping[str, object], tensors: Sequence[TensorInfo], kind: str) -> None:
    """Every given name must exist, and every input must be given: else InputError."""
    expected = [tensor.name for tensor in tensors]
    problems = [f"unknown {kind} '{name}'" for name in given if name not in expected]
    if kind == "input":
        problems += [f"missing {kind} '{name}'" for name in expected if name not in given]
    if problems:
        accepted = ", ".join(f"'{tensor.name}' {tensor}" for tensor in tensors)
        raise InputError(f"{'; '.join(problems)}; the model's {kind}s are: {accepted}")


def as_inputs(
    values: Mapping[str, ArrayLike], tensors: Iterable[TensorInfo]
) -> tuple[list[Array], list[Span]]:
    """The values as C-contiguous, aligned arrays, copied where they are not, and their places.

    Raises InputError where one has not exactly the dtype and shape of its tensor.
    """
    arrays: list[Array] = []
    spans: list[Span] = []
    for tensor in tensors:
        try:
            array = np.asarray(values[tensor.name])
        except (ValueError, TypeError) as error:
            raise InputError(f"input '{tensor.name}': not an array: {error}") from error
        if array.dtype != tensor.dtype or array.shape != tensor.shape:
            raise _mismatch(array, tensor, "input")
        flags = array.flags
        if not (flags.c_contiguous and flags.aligned):
            array = np.require(array, requirements=("C_CONTIGUOUS", "ALIGNED"))
        start = address_of(array)
        arrays.append(array)
        spans.append((start, start + array.nbytes, False))
    return arrays, spans


def as_outputs(
    given: Mapping[str, Array], tensors: Iterable[TensorInfo]
) -> tuple[dict[str, Array], list[Span]]:
    """The given arrays, uninitialised ones for other tensors, and the places of all.

    Raises InputError where a model cannot write its tensor to one that is given.
    """
    arrays: dict[str, Array] = {}
    spans: list[Span] = []
    for tensor in tensors:
        name = tensor.name
        if name not in given:
            array = np.empty(tensor.shape, tensor.dtype)
        else:
            array = given[name]
            if array.dtype != tensor.dtype or array.shape != tensor.shape:
                raise _mismatch(array, tensor, "output")
            if not array.flags.carray:
                raise InputError(f"output '{name}': `out` must be C-contiguous and writable")
        start = address_of(array)
        arrays[name] = array
        spans.append((start, start + array.nbytes, True))
    return arrays, spans


def address_of(array: Array) -> int:
    """Of a C-contiguous array; ctypes finds it several times faster where it may write to it."""
    try:
        return _addressof(_byte_in(array))
    except (TypeError, ValueError):  # read-only, or empty
        return array.__array_interface__["data"][0]


def overlap(spans: Iterable[Span]) -> bool:
    """Whether a byte that is written is also in another span."""
    end = end_of_written = 0
    for start, stop, is_written in sorted(spans):
        if start == stop:
            continue
        if start < (end if is_written else end_of_written):
            return True
        end = max(end, stop)
        if is_written:
            end_of_written = stop
    return False


def _mismatch(array: Array, tensor: TensorInfo, kind: str) -> InputError:
    found = f"{array.dtype}{list(array.shape)}"
    return InputError(f"{kind} '{tensor.name}': expected {tensor}, got {found}")
