"""Sums in the contract's order: 16 strided partial sums, then a pairwise tree."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from uqfc.codegen.builder import Builder
from uqfc.codegen.kernels.tensor import whole_vectors
from uqfc.codegen.tails import lane_mask
from uqfc.codegen.vector import LANES, Pointer, Value


def tree_of(partial: Sequence[Value]) -> Value:
    """``numerics.tree_sum`` of 16 vectors, lane by lane."""
    values = list(partial)
    while len(values) > 1:
        half = len(values) // 2
        values = [values[i] + values[half + i] for i in range(half)]
    return values[0]


def fold_vectors(
    b: Builder,
    count: Value,
    initial: Value,
    step: Callable[[Value, Value, Value | None], Value],
) -> Value:
    """``step(state, position, rest)`` over vectors of 16; ``rest`` is the count of a last part."""
    state = [initial]
    full = whole_vectors(count)
    with b.loop(0, full, LANES, carry=state) as i:
        state[0] = step(state[0], i, None)
    with b.loop(full, count, LANES, carry=state) as i:
        state[0] = step(state[0], i, count - full)
    return state[0]


def each_vector(b: Builder, count: Value, body: Callable[[Value, Value | None], None]) -> None:
    """``body(position, rest)`` as in ``fold_vectors``."""
    full = whole_vectors(count)
    with b.loop(0, full, LANES) as i:
        body(i, None)
    rest = count - full
    with b.when(rest.ne(0)):
        body(full, rest)


def only_first(v: Value, rest: Value | None, filler: float = 0.0) -> Value:
    """``filler`` in the lanes from ``rest`` on; all lanes are kept if it is None."""
    if rest is None:
        return v
    b = v.b
    return b.select(lane_mask(b, rest, v.lanes), v, b.constant(v.element, filler, v.lanes))


def load_part(source: Pointer, position: Value, rest: Value | None) -> Value:
    """16 float32 at ``position``, or ``rest`` of them and zeros."""
    if rest is None:
        return source.load_f32(position * 4)
    return source.load_first("f32", rest, position * 4)


def store_part(target: Pointer, value: Value, position: Value, rest: Value | None) -> None:
    """Stores 16 float32 at ``position``, or the first ``rest``."""
    if rest is None:
        target.store(value, position * 4)
    else:
        target.store_first(value, rest, position * 4)


class LaneSums:
    """Sixteen partial sums of vectors, in the stack frame: ``add`` goes to lane ``index % 16``."""

    def __init__(self, b: Builder) -> None:
        self.b = b
        self.memory = b.stack(LANES * LANES * 4)

    def clear(self) -> None:
        zero = self.b.f32(0.0, LANES)
        with self.b.loop(0, LANES) as lane:
            self.memory.store(zero, lane * (LANES * 4))

    def add(self, index: Value, v: Value) -> None:
        place = self.memory + (index & (LANES - 1)) * (LANES * 4)
        place.store(place.load_f32() + v)

    def total(self) -> Value:
        return tree_of([self.memory.load_f32(lane * LANES * 4) for lane in range(LANES)])
