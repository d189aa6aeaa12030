"""Strides of broadcast and transposed tensors, and the fewest loops that walk them together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from uqfc.codegen.kernels.tensor import Shape
from uqfc.dialects.layouts import row_strides


def dense_strides(shape: Shape) -> Shape:
    """Strides in elements of a row-major tensor."""
    return row_strides(shape)


def broadcast_strides(shape: Shape, strides: Shape, target: Shape) -> Shape:
    """Strides with which a tensor is read as if it had the ``target`` shape.

    ValueError if ``shape`` does not broadcast to ``target``.
    """
    missing = len(target) - len(shape)
    sizes = (1,) * missing + shape
    steps = (0,) * missing + strides
    if missing < 0 or any(s not in (1, t) for s, t in zip(sizes, target, strict=True)):
        raise ValueError(f"shape {shape} does not broadcast to {target}")
    return tuple(0 if s == 1 else step for s, step in zip(sizes, steps, strict=True))


@dataclass(frozen=True)
class Walk:
    """Loop sizes, outermost first (at least one), and for each tensor a stride per loop."""

    sizes: Shape
    strides: tuple[Shape, ...]

    @property
    def outer(self) -> int:
        """Number of loops around the innermost."""
        return len(self.sizes) - 1


def collapse(sizes: Shape, strides: Sequence[Shape]) -> Walk:
    """Drops loops of one iteration and joins neighbours that are one loop for every tensor."""
    kept = [i for i, size in enumerate(sizes) if size != 1]
    loops: list[int] = []
    steps: list[list[int]] = [[] for _ in strides]
    for i in kept:
        joins = bool(loops) and all(
            own[-1] == stride[i] * sizes[i] for own, stride in zip(steps, strides, strict=True)
        )
        if joins:
            loops[-1] *= sizes[i]
            for own, stride in zip(steps, strides, strict=True):
                own[-1] = stride[i]
            continue
        loops.append(sizes[i])
        for own, stride in zip(steps, strides, strict=True):
            own.append(stride[i])
    if not loops:
        return Walk((1,), tuple((1,) for _ in strides))
    return Walk(tuple(loops), tuple(tuple(own) for own in steps))
