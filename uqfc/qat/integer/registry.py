"""The registry that says how an op runs on tensors.

Every tensor has one dimension more than the IR says, its first: one element per run of the module.
It is 1 for what is the same in all runs. So a batch is many runs at once, whatever an op does to
the dimension that a model calls its batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import numpy as np
import torch
from torch import Tensor
from xdsl.ir import Operation, SSAValue

from uqfc.dialects import nn
from uqfc.dialects.tensors import Array


@dataclass(frozen=True)
class Step:
    """What is run for one op: ``run`` of the tensors of ``operands`` gives the op's result.

    Operands that are constants may be left out, having been prepared.
    """

    run: Callable[..., Tensor]
    operands: tuple[SSAValue, ...]


Maker: TypeAlias = Callable[[Any, torch.device], Step | None]
"""``(op, device) -> Step``; None where the interpreter has to run the op."""

MAKERS: dict[type[Operation], Maker] = {}

M = TypeVar("M", bound=Maker)


def makes(*kinds: type[Operation]) -> Callable[[M], M]:
    """Register what makes the steps of ops of these kinds."""

    def register(maker: M) -> M:
        for kind in kinds:
            MAKERS[kind] = maker
        return maker

    return register


def constant_of(value: SSAValue) -> Array | None:
    """The array of a constant."""
    return value.owner.array if isinstance(value.owner, nn.ConstantOp) else None


def to_tensor(array: Array, device: torch.device) -> Tensor:
    """A copy on the device, of the same type."""
    return torch.from_numpy(np.array(array)).to(device)


def aligned(*tensors: Tensor) -> list[Tensor]:
    """Views of one rank: dimensions of size 1 are put behind the runs, as broadcasting would."""
    rank = max(t.ndim for t in tensors)
    return [t.reshape(t.shape[0], *[1] * (rank - t.ndim), *t.shape[1:]) for t in tensors]
