"""What the compiler needs of a model that a frontend has read."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from xdsl.dialects.builtin import ModuleOp

from uqfc.dialects.tensors import Shape


class ReadModel(Protocol):
    """A checked model with static shapes."""

    def convert(self) -> ModuleOp:
        """A module of its own; UnsupportedError with all that cannot be imported."""
        ...

    @property
    def inputs(self) -> dict[str, tuple[Shape, np.dtype[Any]]]:
        """Shape and dtype of the arrays that the model takes, by name."""
        ...

    @property
    def quantized(self) -> bool:
        """Whether the model may have quantize points of its own."""
        ...

    def digest(self) -> bytes:
        """SHA-256 of everything that ``convert`` looks at."""
        ...
