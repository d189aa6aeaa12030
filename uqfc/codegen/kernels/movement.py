"""Transpose, slice, pad, concat and broadcast as strided copies of any element type.

Each constructor takes the shapes and properties of the ``nn`` op of its name and gives a
``MovementKernel``. Inputs are read within their bounds only. ``pitches``: elements from row to row
of each input, then of the result, as ``row_strides`` takes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product as cartesian
from typing import Literal, TypeAlias

import numpy as np

from uqfc.codegen.builder import Builder
from uqfc.codegen.isa import Isa
from uqfc.codegen.kernels.copying import CopyKernel, FillKernel
from uqfc.codegen.kernels.geometry import broadcast_strides, dense_strides
from uqfc.codegen.kernels.tensor import DTYPE_BYTES, Dtype, Shape, TensorKernel, product
from uqfc.codegen.vector import Pointer
from uqfc.dialects.layouts import row_strides

PadMode: TypeAlias = Literal["constant", "reflect", "edge", "wrap"]

NUMPY_DTYPES: dict[Dtype, type[np.generic]] = {
    "f32": np.float32,
    "u8": np.uint8,
    "i8": np.int8,
    "i32": np.int32,
    "i64": np.int64,
    "i1": np.bool_,
}


@dataclass(frozen=True)
class MovementKernel(TensorKernel):
    """A fill of the whole result (or none), then copies, each from the input of its number."""

    isa: Isa
    copies: tuple[tuple[int, CopyKernel], ...]
    fill: FillKernel | None = field(default=None)

    @property
    def name(self) -> str:
        parts = [self.fill.name] if self.fill else []
        return "+".join(dict.fromkeys([*parts, *(copy.name for _, copy in self.copies)]))

    def call(
        self,
        b: Builder,
        inputs: Sequence[Pointer],
        out: Pointer,
        scratch: Pointer | None = None,
    ) -> None:
        if self.fill:
            self.fill.call(b, [], out)
        for source, copy in self.copies:
            copy.call(b, [inputs[source]], out)


def transpose(
    isa: Isa, dtype: Dtype, shape: Shape, permutation: Shape, pitches: Shape = (0, 0)
) -> MovementKernel:
    strides = row_strides(shape, pitches[0])
    sizes = tuple(shape[p] for p in permutation)
    steps = tuple(strides[p] for p in permutation)
    copy = CopyKernel(isa, DTYPE_BYTES[dtype], sizes, steps, row_strides(sizes, pitches[1]))
    return MovementKernel(isa, ((0, copy),))


def broadcast(
    isa: Isa, dtype: Dtype, shape: Shape, target: Shape, pitches: Shape = (0, 0)
) -> MovementKernel:
    """ValueError if ``shape`` does not broadcast to ``target``."""
    steps = broadcast_strides(shape, row_strides(shape, pitches[0]), target)
    copy = CopyKernel(isa, DTYPE_BYTES[dtype], target, steps, row_strides(target, pitches[1]))
    return MovementKernel(isa, ((0, copy),))


def slice_tensor(
    isa: Isa,
    dtype: Dtype,
    shape: Shape,
    starts: Shape,
    steps: Shape,
    sizes: Shape,
    pitches: Shape = (0, 0),
) -> MovementKernel:
    """``out[i] = x[starts + i * steps]`` for i below ``sizes``; steps may be negative."""
    strides = row_strides(shape, pitches[0])
    offset = sum(s * start for s, start in zip(strides, starts, strict=True))
    moves = tuple(s * step for s, step in zip(strides, steps, strict=True))
    width = DTYPE_BYTES[dtype]
    target = row_strides(sizes, pitches[1])
    copy = CopyKernel(isa, width, sizes, moves, target, in_offset=offset)
    return MovementKernel(isa, ((0, copy),) if product(sizes) else ())


def concat(
    isa: Isa,
    dtype: Dtype,
    shapes: Sequence[Shape],
    axis: int,
    pitches: Sequence[int] | None = None,
    in_place: Sequence[int] = (),
) -> MovementKernel:
    """Inputs ``in_place`` are there before: they are not copied."""
    pitches = pitches or (0,) * (len(shapes) + 1)
    total = sum(s[axis] for s in shapes)
    result = (*shapes[0][:axis], total, *shapes[0][axis + 1 :])
    strides = row_strides(result, pitches[-1])
    copies: list[tuple[int, CopyKernel]] = []
    start = 0
    for i, shape in enumerate(shapes):
        offset = start * strides[axis]
        width = DTYPE_BYTES[dtype]
        source = row_strides(shape, pitches[i])
        copy = CopyKernel(isa, width, shape, source, strides, out_offset=offset)
        if product(shape) and i not in in_place:
            copies.append((i, copy))
        start += shape[axis]
    return MovementKernel(isa, tuple(copies))


def pad(
    isa: Isa,
    dtype: Dtype,
    shape: Shape,
    low: Shape,
    high: Shape,
    mode: PadMode = "constant",
    value: float = 0.0,
) -> MovementKernel:
    """``numpy.pad``; ``value`` is converted to the element type."""
    result = tuple(n + a + b for n, a, b in zip(shape, low, high, strict=True))
    in_strides, out_strides = dense_strides(shape), dense_strides(result)
    copies: list[tuple[int, CopyKernel]] = []
    axes = [_runs(n, a, b, mode) for n, a, b in zip(shape, low, high, strict=True)]
    for runs in cartesian(*axes):
        copy = CopyKernel(
            isa,
            DTYPE_BYTES[dtype],
            tuple(r.count for r in runs),
            tuple(r.step * s for r, s in zip(runs, in_strides, strict=True)),
            out_strides,
            sum(r.source * s for r, s in zip(runs, in_strides, strict=True)),
            sum(r.target * s for r, s in zip(runs, out_strides, strict=True)),
        )
        copies.append((0, copy))
    fill = None
    if mode == "constant" and product(shape) != product(result):
        bits = np.asarray(value).astype(NUMPY_DTYPES[dtype])
        number = int.from_bytes(bits.tobytes(), "little", signed=True)
        fill = FillKernel(isa, DTYPE_BYTES[dtype], product(result), number)
    return MovementKernel(isa, tuple(copies) if product(shape) else (), fill)


@dataclass(frozen=True)
class _Run:
    """``count`` elements from ``target`` on come from ``source, source + step, …``."""

    target: int
    source: int
    step: int
    count: int


def _runs(size: int, low: int, high: int, mode: PadMode) -> list[_Run]:
    """Where the elements of one padded axis come from; constants come from nowhere."""
    if mode == "constant":
        return [_Run(low, 0, 1, size)]
    source = np.pad(np.arange(size), (low, high), mode=mode).tolist()
    runs: list[_Run] = []
    start = 0
    while start < len(source):
        step = source[start + 1] - source[start] if start + 1 < len(source) else 1
        stop = start + 1
        while stop < len(source) and source[stop] - source[stop - 1] == step:
            stop += 1
        runs.append(_Run(start, source[start], step, stop - start))
        start = stop
    return runs
