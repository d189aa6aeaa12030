"""Errors of the runtime. Every one of them is a ``UqfRuntimeError`` with a message for a person."""

from __future__ import annotations


class UqfRuntimeError(Exception):
    """Base of everything that this package raises on purpose."""


class ArtifactError(UqfRuntimeError):
    """The file is not a uqfc artifact, is damaged, or does not fit this runtime or machine."""


class UnsupportedCpuError(ArtifactError):
    """The artifact is sound but needs CPU features that this machine does not have."""


class InputError(UqfRuntimeError, ValueError):
    """An input or output array has a wrong name, dtype, shape or memory layout."""


class ExecutionError(UqfRuntimeError):
    """The arena cannot be allocated, or the model's code refused to run."""
