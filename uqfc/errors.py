"""Errors that a user can cause. The command line prints their message and exits with 2."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class UqfcError(Exception):
    """Base of all errors caused by what the user gave, as opposed to a defect of uqfc."""


class ModelError(UqfcError):
    """The model file is unreadable, inconsistent or out of bounds."""


class UqrError(ModelError):
    """The document of a UQR model is malformed, or does not describe the graph it comes with."""


@dataclass(frozen=True)
class UnsupportedNode:
    """One node that no converter or kernel accepts, and why."""

    name: str
    op: str
    why: str


class UnsupportedError(UqfcError):
    """The model is valid but uses what uqfc does not have; lists every such node."""

    def __init__(self, nodes: Sequence[UnsupportedNode], source: str = "model") -> None:
        self.nodes = tuple(nodes)
        lines = [f"  {n.op} '{n.name}': {n.why}" for n in self.nodes]
        super().__init__(f"{source}: {len(lines)} unsupported node(s)\n" + "\n".join(lines))


class CalibrationError(UqfcError):
    """Calibration data is missing, of the wrong shape, or not finite."""


class TargetError(UqfcError):
    """The target is unknown, its table is malformed, or it cannot run what was asked."""


class FallbackError(UqfcError):
    """``--strict`` was given and some layer did not get the bit width that was requested."""


class InputError(UqfcError):
    """An input given at run time has a wrong name, shape or dtype."""


class ToolchainError(UqfcError):
    """A linker is needed to write the artifact and none was found, or it failed."""
