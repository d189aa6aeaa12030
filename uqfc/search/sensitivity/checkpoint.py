"""What was measured so far, in a JSON file that is always whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from uqfc.codegen.artifact import write_atomically
from uqfc.errors import UqfcError
from uqfc.numerics import F64

FORMAT = "uqfc sensitivity 1"
MOST_BYTES = 256 << 20


@dataclass(frozen=True)
class Checkpoint:
    """``key``: SHA-256 of all that the values depend on; a file with another one is refused.

    JSON numbers are the shortest that read back as the same float64: resuming changes no bit.
    """

    path: Path
    method: str
    key: str

    def load(self) -> dict[str, F64]:
        """By item; empty if there is no file. UqfcError for another measurement's file."""
        try:
            if self.path.stat().st_size > MOST_BYTES:
                raise UqfcError(f"{self.path}: a checkpoint has at most {MOST_BYTES} bytes")
            document = json.loads(self.path.read_bytes())
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise UqfcError(f"{self.path}: cannot be read: {error}") from error
        except (ValueError, RecursionError) as error:
            raise UqfcError(f"{self.path}: no checkpoint of a sensitivity: {error}") from error
        return self._values(document)

    def save(self, values: Mapping[str, F64]) -> None:
        """Replace the file."""
        document = {
            "format": FORMAT,
            "method": self.method,
            "key": self.key,
            "values": {item: units.tolist() for item, units in values.items()},
        }
        write_atomically({self.path: [json.dumps(document).encode()]})

    def _values(self, document: Any) -> dict[str, F64]:
        found = cast(dict[str, Any], document if isinstance(document, dict) else {})
        if found.get("format") != FORMAT:
            raise UqfcError(f"{self.path}: not a checkpoint of a sensitivity ('{FORMAT}')")
        if found.get("method") != self.method:
            raise UqfcError(
                f"{self.path}: the checkpoint is of method '{found.get('method')}', not "
                f"'{self.method}'; remove it, or give another path"
            )
        if found.get("key") != self.key:
            raise UqfcError(
                f"{self.path}: the checkpoint is of another network, other samples or other "
                "options; remove it, or give another path"
            )
        values = found.get("values")
        if not isinstance(values, dict):
            raise UqfcError(f"{self.path}: values: accepted: an object of lists of numbers")
        return {
            name: self._units(name, each) for name, each in cast(dict[str, Any], values).items()
        }

    def _units(self, name: str, units: Any) -> F64:
        try:
            array = np.asarray(units, np.float64)
        except (TypeError, ValueError) as error:
            raise UqfcError(f"{self.path}: values of '{name}': {error}") from error
        if array.ndim != 1 or not np.isfinite(array).all():
            raise UqfcError(f"{self.path}: values of '{name}': accepted: a list of finite numbers")
        return array
