"""States of training on disk: written whole or not at all, read only for the same training."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from uqfc.errors import UqfcError

FORMAT = "uqfc-finetune-1"


def write_checkpoint(path: Path, arguments: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Replace the file in one step. UqfcError if it cannot be written."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    document = {"format": FORMAT, "arguments": dict(arguments), "state": dict(state)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(document, temporary)
        temporary.replace(path)
    except OSError as error:
        raise UqfcError(f"checkpoint: cannot write {path}: {error}") from None
    finally:
        with suppress(OSError):
            temporary.unlink()


def read_checkpoint(
    path: Path, arguments: Mapping[str, Any], device: torch.device
) -> dict[str, Any] | None:
    """The state that was written, or None if there is no file.

    UqfcError if it is no checkpoint of ``finetune``, or one of another call of it: it names the
    argument. Nothing but tensors and plain values is read.
    """
    if not path.exists():
        return None
    try:
        document: Any = torch.load(path, map_location=device, weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        first = str(error).partition("\n")[0]
        raise UqfcError(f"checkpoint: cannot read {path}: {first}") from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise UqfcError(f"checkpoint: {path} is not what finetune writes")
    found: dict[str, Any] = document["arguments"]
    for name, value in arguments.items():
        if found.get(name) != value:
            raise UqfcError(
                f"checkpoint: {path} is of a call with {name}={found.get(name)!r}, this has "
                f"{value!r}; give the same, or another path"
            )
    state: dict[str, Any] = document["state"]
    return state
