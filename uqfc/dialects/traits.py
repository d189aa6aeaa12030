"""What an op says of its kernels, so that passes need not know the op."""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.traits import OpTrait


@dataclass(frozen=True)
class ReadsWithinBounds(OpTrait):
    """The op's kernels read no byte past the end of their operands.

    Without it ``form-kernels`` copies inputs of the network that the op reads, as ``uqf.h``
    promises callers that inputs are read within their bounds.
    """
