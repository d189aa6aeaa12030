"""One loop nest for a chain of elementwise ops over broadcast and transposed inputs.

The operands are walked with the fewest loops (``geometry.collapse``); the innermost has vectors of
16 lanes. If the result has a few interleaved channels innermost and the inputs are planes (an
image from NCHW to NHWC), vectors run along the planes and are interleaved when stored.

No input is read past its end. ``out`` may be an input of the same shape, strides and element size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

from uqfc.codegen.builder import Builder, find_function
from uqfc.codegen.isa import Isa
from uqfc.codegen.kernels.elementwise_base import ElementwiseOp, Lane
from uqfc.codegen.kernels.elementwise_quantized import QuantizedOp
from uqfc.codegen.kernels.geometry import Walk, broadcast_strides, collapse, dense_strides
from uqfc.codegen.kernels.interleave import interleave, store_interleaved
from uqfc.codegen.kernels.saturating import PACKED, packs
from uqfc.codegen.kernels.tensor import (
    DTYPE_BYTES,
    MEMORY_ELEMENTS,
    Argument,
    Dtype,
    FunctionKernel,
    Shape,
    insert_lane,
    nest,
    smaller,
    structure_name,
    to_lanes,
    to_memory,
    undefined,
    whole_vectors,
)
from uqfc.codegen.parts import Part
from uqfc.codegen.vector import LANES, Pointer, Value

MAX_INTERLEAVED = 4
GRANULE = 4 * LANES
"""Parts of a loop over vectors start at multiples of so many elements."""
LEAST_GRANULES = 16
"""A loop of fewer iterations does not split evenly."""


@dataclass(frozen=True)
class Input:
    """A tensor that broadcasts to the result; ``strides`` in elements, row-major if None."""

    dtype: Dtype
    shape: Shape
    strides: Shape | None = None


@dataclass(frozen=True)
class Step:
    """``op`` of values: inputs are 0, 1, …, results of steps follow in order."""

    op: ElementwiseOp
    operands: tuple[int, ...]


@dataclass(frozen=True)
class ElementwiseKernel(FunctionKernel):
    """``steps`` over ``inputs``; the last step's value is the result, of shape ``shape``.

    ValueError if an input does not broadcast or an op does not take its operands.
    """

    isa: Isa
    shape: Shape
    inputs: tuple[Input, ...]
    steps: tuple[Step, ...]

    def __post_init__(self) -> None:
        if not self.steps or not self.inputs:
            raise ValueError("an elementwise kernel needs inputs and steps")
        _ = self.dtypes, self.walk

    @cached_property
    def dtypes(self) -> tuple[Dtype, ...]:
        """Element types of the inputs and of the steps' results."""
        known: list[Dtype] = [i.dtype for i in self.inputs]
        for step in self.steps:
            known.append(step.op.result([known[o] for o in step.operands]))
        return tuple(known)

    @property
    def dtype(self) -> Dtype:
        """Element type of the result."""
        return self.dtypes[-1]

    @cached_property
    def walk(self) -> Walk:
        """Loops; strides of the inputs, then of the result."""
        strides = [
            broadcast_strides(i.shape, i.strides or dense_strides(i.shape), self.shape)
            for i in self.inputs
        ]
        return collapse(self.shape, [*strides, dense_strides(self.shape)])

    @cached_property
    def interleaved(self) -> int:
        """Interleaved channels of the result if the planar form applies, else 0."""
        sizes = self.walk.sizes
        if len(sizes) < 2 or not 1 < sizes[-1] <= MAX_INTERLEAVED or sizes[-2] < LANES:
            return 0
        planar = all(s[-2] in (0, 1) for s in self.walk.strides[:-1])
        return sizes[-1] if planar else 0

    @cached_property
    def reads(self) -> tuple[str, ...]:
        """How each input is read along the vectors: ``splat``, ``vector`` or ``strided``."""
        axis = -2 if self.interleaved else -1
        kinds = {0: "splat", 1: "vector"}
        return tuple(kinds.get(s[axis], "strided") for s in self.walk.strides[:-1])

    @property
    def name(self) -> str:
        ops = tuple((s.op.label, s.operands) for s in self.steps)
        loops = (self.walk.outer, self.interleaved)
        structure = (loops, self.reads, self.dtypes, ops)
        labels = "_".join(s.op.label for s in self.steps)
        return structure_name(f"{self.dtype}_{labels}", structure, self.isa)

    @property
    def scalars(self) -> list[float | int]:
        """The numbers of all steps' ops."""
        return [value for step in self.steps for value in step.op.scalars()]

    def emit(self, module: Any) -> Any:
        """``f(in0, …, out, size0, …, strides of in0 in bytes, …, strides of out, scalars…)``."""
        if function := find_function(module, self.name):
            return function
        rank = len(self.walk.sizes)
        pointers = [f"in{i}" for i in range(len(self.inputs))] + ["out"]
        parameters = dict.fromkeys(pointers, "ptr")
        parameters |= {f"size{d}": "i64" for d in range(rank)}
        parameters |= {f"{p}_stride{d}": "i64" for p in pointers for d in range(rank)}
        for i, value in enumerate(self.scalars):
            parameters[f"s{i}"] = "f32" if isinstance(value, float) else "i32"
        b = Builder.function(module, self.isa, self.name, internal=True, **parameters)
        _Emitter(self, b).run()
        return b.ret()

    def arguments(
        self, inputs: Sequence[Pointer], out: Pointer, scratch: Pointer | None
    ) -> list[Argument]:
        walk = self.walk
        widths = [DTYPE_BYTES[i.dtype] for i in self.inputs] + [DTYPE_BYTES[self.dtype]]
        steps = [
            step * width
            for strides, width in zip(walk.strides, widths, strict=True)
            for step in strides
        ]
        return [*inputs, out, *walk.sizes, *steps, *self.scalars]

    @property
    def splits(self) -> bool:
        return True

    @cached_property
    def _split_axis(self) -> tuple[int, int]:
        """The loop that parts share, and its granule: the outermost of some length."""
        vectors = len(self.walk.sizes) - (2 if self.interleaved else 1)
        granules = [GRANULE if d == vectors else 1 for d in range(vectors + 1)]
        counts = [s // g for s, g in zip(self.walk.sizes, granules, strict=False)]
        long = (d for d, count in enumerate(counts) if count >= LEAST_GRANULES)
        axis = next(long, counts.index(max(counts)))
        return axis, granules[axis]

    def share(self, arguments: list[Argument], part: Part) -> list[Argument]:
        axis, granule = self._split_axis
        begin, end = part.share(self.walk.sizes[axis], granule)
        pointers, rank = len(self.inputs) + 1, len(self.walk.sizes)
        shared = list(arguments)
        for i in range(pointers):
            stride = arguments[pointers + rank * (1 + i) + axis]
            shared[i] = cast(Pointer, arguments[i]) + begin * cast(int, stride)
        shared[pointers + axis] = end - begin
        return shared


class _Emitter:
    """The loops of one kernel."""

    def __init__(self, kernel: ElementwiseKernel, b: Builder) -> None:
        self.kernel = kernel
        self.b = b
        self.rank = len(kernel.walk.sizes)
        self.names = [f"in{i}" for i in range(len(kernel.inputs))]
        self.channels = kernel.interleaved
        self.scalars = [b.value(f"s{i}") for i in range(len(kernel.scalars))]

    def run(self) -> None:
        b = self.b
        inner = 2 if self.channels else 1
        outer = [b.value(f"size{d}") for d in range(self.rank - inner)]
        with nest(b, outer) as indices:
            starts = [self._start(name, indices) for name in [*self.names, "out"]]
            if self.channels:
                self._interleaved(starts[:-1], starts[-1])
            else:
                self._dense(starts[:-1], starts[-1])

    def _start(self, name: str, indices: Sequence[Value]) -> Pointer:
        pointer = self.b.pointer(name)
        for d, index in enumerate(indices):
            pointer = pointer + index * self.b.value(f"{name}_stride{d}")
        return pointer

    def _dense(self, sources: Sequence[Pointer], out: Pointer) -> None:
        """Vectors along the last axis."""
        b, n = self.b, self.b.value(f"size{self.rank - 1}")
        width = DTYPE_BYTES[self.kernel.dtype]
        read = _Reader(self, sources, self.rank - 1)
        packed = self._packed(read, out, n)
        full = whole_vectors(n)
        with b.loop(packed, full, LANES) as i:
            out.store(self._chain(read.whole(i)), i * width)
        rest = n - full
        with b.when(rest.ne(0)):
            out.store_first(self._chain(read.first(full, rest)), rest, full * width)

    def _packed(self, read: _Reader, out: Pointer, n: Value) -> Value:
        """Elements that are rounded four vectors at a time, and their number."""
        b, last = self.b, self.kernel.steps[-1].op
        if not (isinstance(last, QuantizedOp) and packs(b.isa)):
            return b.i64(0)
        saturation, size = last.saturation(b, self.scalars), LANES * PACKED
        packed = whole_vectors(n, size)
        with b.loop(0, packed, size) as i:
            values: list[Value] = []
            for vector in range(PACKED):
                operands, scalars = self._before_last(read.whole(i + vector * LANES))
                values.append(last.before_rounding(b, operands, scalars))
            out.store(saturation.pack(values), i)
        return packed

    def _interleaved(self, sources: Sequence[Pointer], out: Pointer) -> None:
        """Vectors along the last axis but one; channels are interleaved when stored."""
        b, n, channels = self.b, self.b.value(f"size{self.rank - 2}"), self.channels
        pixel = DTYPE_BYTES[self.kernel.dtype] * channels
        last = f"_stride{self.rank - 1}"
        planes = [
            [s + b.value(name + last) * c for s, name in zip(sources, self.names, strict=True)]
            for c in range(channels)
        ]
        readers = [_Reader(self, plane, self.rank - 2) for plane in planes]
        full = whole_vectors(n)
        with b.loop(0, full, LANES) as i:
            store_interleaved(out + i * pixel, [self._chain(r.whole(i)) for r in readers])
        rest = n - full
        with b.when(rest.ne(0)):
            parts = [self._chain(r.first(full, rest)) for r in readers]
            (out + full * pixel).store_first(interleave(parts), rest * channels)

    def _chain(self, lanes: list[Value]) -> Value:
        """The elements to store, from the inputs' lanes."""
        operands, scalars = self._before_last(lanes)
        value = self.kernel.steps[-1].op.emit(self.b, operands, scalars)
        return to_memory(self.kernel.dtype, value)

    def _before_last(self, lanes: list[Value]) -> tuple[list[Lane], list[Value]]:
        """The operands and scalars of the last step, from the inputs' lanes."""
        kernel, values, used = self.kernel, lanes, 0
        for step in kernel.steps[:-1]:
            count = len(step.op.scalars())
            scalars = self.scalars[used : used + count]
            values.append(step.op.emit(self.b, self._operands(step, values), scalars))
            used += count
        return self._operands(kernel.steps[-1], values), self.scalars[used:]

    def _operands(self, step: Step, values: list[Value]) -> list[Lane]:
        return [(self.kernel.dtypes[o], values[o]) for o in step.operands]


class _Reader:
    """Lanes of all inputs at a position of the vector axis. Splats are loaded once."""

    def __init__(self, emitter: _Emitter, sources: Sequence[Pointer], axis: int) -> None:
        self.b = emitter.b
        self.kernel = emitter.kernel
        self.sources = sources
        self.strides = [self.b.value(f"{name}_stride{axis}") for name in emitter.names]
        self.splats = {
            i: source.load(self._element(i), 0, 0).splat(LANES)
            for i, source in enumerate(sources)
            if self.kernel.reads[i] == "splat"
        }

    def whole(self, position: Value) -> list[Value]:
        """16 elements of each input."""
        return [self._lanes(i, position, None) for i in range(len(self.sources))]

    def first(self, position: Value, count: Value) -> list[Value]:
        """``count`` < 16 elements; the other lanes hold anything."""
        return [self._lanes(i, position, count) for i in range(len(self.sources))]

    def _element(self, i: int) -> str:
        return MEMORY_ELEMENTS[self.kernel.inputs[i].dtype]

    def _lanes(self, i: int, position: Value, count: Value | None) -> Value:
        dtype, element, source = self.kernel.inputs[i].dtype, self._element(i), self.sources[i]
        start = position * DTYPE_BYTES[dtype]
        match self.kernel.reads[i]:
            case "splat":
                raw = self.splats[i]
            case "vector" if count is not None:
                raw = source.load_first(element, count, start)
            case "vector":
                raw = source.load(element, start)
            case _:
                first = source + position * self.strides[i]
                raw = self._strided(first, element, self.strides[i], count)
        return to_lanes(dtype, raw)

    def _strided(self, source: Pointer, element: str, stride: Value, count: Value | None) -> Value:
        vector = undefined(self.b, element, LANES)
        for lane in range(LANES):
            index = self.b.i64(lane)
            if count is not None:
                index = smaller(index, count - 1)
            vector = insert_lane(vector, lane, source.load(element, index * stride, 0))
        return vector
