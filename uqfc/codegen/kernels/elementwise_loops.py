"""The loops of an elementwise kernel: which elements are read, computed and stored together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from uqfc.codegen.builder import Builder
from uqfc.codegen.kernels.biased import biased
from uqfc.codegen.kernels.channels_last import channels_last, store_channels_last
from uqfc.codegen.kernels.copying import copy_bytes
from uqfc.codegen.kernels.elementwise_base import Lane
from uqfc.codegen.kernels.saturating import PACKED, Saturation, joined
from uqfc.codegen.kernels.tensor import (
    DTYPE_BYTES,
    MEMORY_ELEMENTS,
    insert_lane,
    nest,
    smaller,
    to_lanes,
    to_memory,
    undefined,
    whole_vectors,
)
from uqfc.codegen.vector import LANES, Pointer, Value

if TYPE_CHECKING:
    from uqfc.codegen.kernels.elementwise import ElementwiseKernel

GRANULE = PACKED * LANES
"""Elements of a block, whose bytes are packed together."""
MOST_REPEATED = 8192
"""Most bytes of a group of rows of an input that repeats: a part of the first cache."""


class Loops:
    """The loops of one kernel."""

    def __init__(self, b: Builder, kernel: ElementwiseKernel) -> None:
        self.kernel = kernel
        self.b = b
        self.rank = len(kernel.walk.sizes)
        self.names = [f"in{i}" for i in range(len(kernel.inputs))]
        self.channels = kernel.interleaved
        self.scalars = [b.value(f"s{i}") for i in range(len(kernel.scalars))]
        self.stored = [b.stack(MOST_REPEATED) for _ in kernel.repeats if kernel.grouped]
        self.saturation: Saturation | None = None
        if kernel.rounded:
            self.saturation = kernel.rounded.saturation(b, self.scalars)

    def run(self) -> None:
        b = self.b
        inner = 2 if self.channels or self.kernel.repeats else 1
        outer = [b.value(f"size{d}") for d in range(self.rank - inner)]
        with nest(b, outer) as indices:
            starts = [self._start(name, indices) for name in [*self.names, "out"]]
            if self.channels:
                self._interleaved(starts[:-1], starts[-1])
            elif self.kernel.grouped:
                self._grouped(starts[:-1], starts[-1])
            elif self.kernel.repeats:
                self._repeated(starts[:-1], starts[-1])
            else:
                self._dense(starts[:-1], starts[-1], b.value(f"size{self.rank - 1}"))

    def _start(self, name: str, indices: Sequence[Value]) -> Pointer:
        pointer = self.b.pointer(name)
        for d, index in enumerate(indices):
            pointer = pointer + index * self.b.value(f"{name}_stride{d}")
        return pointer

    def _dense(self, sources: Sequence[Pointer], out: Pointer, n: Value) -> None:
        """Vectors along ``n`` elements of the last axis."""
        b, start = self.b, self.b.i64(0)
        width = DTYPE_BYTES[self.kernel.dtype]
        reader = _Reader(self, sources, self.rank - 1)
        if self.saturation:
            start = whole_vectors(n, GRANULE)
            with b.loop(0, start, GRANULE) as i:
                out.store(self._packed(reader.block(i)), i)
        full = whole_vectors(n)
        with b.loop(start, full, LANES) as i:
            out.store(self._chain(reader.read(i)), i * width)
        rest = n - full
        with b.when(rest.ne(0)):
            out.store_first(self._chain(reader.read(full, rest)), rest, full * width)

    def _repeated(self, sources: Sequence[Pointer], out: Pointer) -> None:
        """Blocks of the last axis, the last of fewer elements, each for all of the axis before."""
        b, rows = self.b, self.b.value(f"size{self.rank - 2}")
        n, axis = self.b.value(f"size{self.rank - 1}"), f"_stride{self.rank - 2}"
        once = _Reader(self, sources, self.rank - 1)

        def of_all_rows(i: Value, count: Value | None) -> None:
            known = {k: once.four(k, i, count) for k in self.kernel.repeats}
            with b.loop(0, rows) as row:
                names = zip(sources, self.names, strict=True)
                places = [source + row * b.value(name + axis) for source, name in names]
                block = _Reader(self, places, self.rank - 1).block(i, known, count)
                target, bytes_of = out + row * b.value("out" + axis), self._packed(block)
                if count is None:
                    target.store(bytes_of, i)
                else:
                    target.store_first(bytes_of, count, i)

        full = whole_vectors(n, GRANULE)
        with b.loop(0, full, GRANULE) as i:
            of_all_rows(i, None)
        with b.when(full.lt(n)):
            of_all_rows(full, n - full)

    def _grouped(self, sources: Sequence[Pointer], out: Pointer) -> None:
        """Rows of the last axis: some inputs have the same row every time, all others are dense.

        As many rows as a whole number of blocks takes are a group; what repeats is stored as often
        on the stack. The first block of all groups is done, then the second of all, …, so that
        what repeats is read once for each. Rows that do not fill a group are dense.
        """
        b, kernel = self.b, self.kernel
        rows, n = (b.value(f"size{self.rank - d}") for d in (2, 1))
        members = b.i64(GRANULE) // smaller(n & -n, GRANULE)
        length, groups = members * n, rows // members
        widths = [DTYPE_BYTES[i.dtype] for i in kernel.inputs]
        repeated = dict(zip(kernel.repeats, self.stored, strict=True))
        for k, stored in repeated.items():
            size = n * widths[k]
            with b.loop(0, members) as row:
                copy_bytes(b, sources[k], stored + row * size, size)

        def at(element: Value) -> tuple[list[Pointer], Pointer]:
            moved = [s + element * width for s, width in zip(sources, widths, strict=True)]
            return [repeated.get(k, m) for k, m in enumerate(moved)], out + element

        once = _Reader(self, at(b.i64(0))[0], self.rank - 1)
        with b.loop(0, length, GRANULE) as i:
            known = {k: once.four(k, i) for k in repeated}
            with b.loop(0, groups) as group:
                places, target = at(group * length)
                block = _Reader(self, places, self.rank - 1).block(i, known)
                target.store(self._packed(block), i)
        done = groups * length
        self._dense(*at(done), rows * n - done)

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
        full, start = whole_vectors(n), b.i64(0)
        if self.saturation:
            start = whole_vectors(n, GRANULE)
            with b.loop(0, start, GRANULE) as i:
                bytes_of = [self._packed(reader.block(i)) for reader in readers]
                for v in range(PACKED):
                    lanes = range(LANES * v, LANES * (v + 1))
                    store_channels_last(
                        out + (i + LANES * v) * pixel, [c.shuffle(lanes) for c in bytes_of]
                    )
        with b.loop(start, full, LANES) as i:
            store_channels_last(out + i * pixel, [self._chain(r.read(i)) for r in readers])
        rest = n - full
        with b.when(rest.ne(0)):
            parts = [self._chain(r.read(full, rest)) for r in readers]
            (out + full * pixel).store_first(channels_last(parts), rest * channels)

    def _chain(self, lanes: Sequence[Value]) -> Value:
        """The elements to store, from the inputs' lanes."""
        operands, scalars = self._last_operands(lanes)
        result = self.kernel.steps[-1].op.emit(self.b, operands, scalars)
        return to_memory(self.kernel.dtype, result)

    def _packed(self, vectors: Sequence[Sequence[Value]]) -> Value:
        """The bytes of four vectors, from the inputs' lanes of each."""
        op, saturation = self.kernel.rounded, self.saturation
        assert op is not None
        assert saturation is not None
        chains = [self._last_operands(lanes) for lanes in vectors]
        operands = [of_vector for of_vector, _ in chains]
        pack = saturation.pack_in_lanes if self.kernel.in_lanes else saturation.pack
        return pack(op.before_rounding(self.b, operands, chains[0][1]))

    def _last_operands(self, lanes: Sequence[Value]) -> tuple[list[Lane], list[Value]]:
        """The operands and scalars of the last step, from the inputs' lanes."""
        kernel, values, used = self.kernel, list(lanes), 0
        operands: list[Lane] = []
        scalars: list[Value] = []
        for number, step in enumerate(kernel.steps, 1):
            operands = [(kernel.dtypes[o], values[o]) for o in step.operands]
            count = len(step.op.scalars())
            scalars = self.scalars[used : used + count]
            if number < len(kernel.steps):
                values.append(step.op.emit(self.b, operands, scalars))
            used += count
        return operands, scalars


class _Reader:
    """Lanes of all inputs at a position of the vector axis. Splats are loaded once."""

    def __init__(self, emitter: Loops, sources: Sequence[Pointer], axis: int) -> None:
        self.b = emitter.b
        self.kernel = emitter.kernel
        self.sources = sources
        self.strides = [self.b.value(f"{name}_stride{axis}") for name in emitter.names]
        self.splats = {
            i: source.load(self._element(i), 0, 0).splat(LANES)
            for i, source in enumerate(sources)
            if self.kernel.reads[i] == "splat"
        }

    def read(self, position: Value, count: Value | None = None) -> list[Value]:
        """16 elements of each input, or ``count`` < 16: the other lanes hold anything."""
        raws = [self._raw(i, position, count) for i in range(len(self.sources))]
        return [to_lanes(i.dtype, raw) for i, raw in zip(self.kernel.inputs, raws, strict=True)]

    def block(
        self,
        position: Value,
        known: Mapping[int, list[Value]] | None = None,
        count: Value | None = None,
    ) -> list[tuple[Value, ...]]:
        """Four vectors of the inputs, of 64 elements; those of some may be ``known``.

        Or of ``count`` < 64 elements of inputs that are not strided.
        """
        given = known or {}
        places = range(len(self.sources))
        columns = [given[i] if i in given else self.four(i, position, count) for i in places]
        return list(zip(*columns, strict=True))

    def four(self, i: int, position: Value, count: Value | None = None) -> list[Value]:
        """Four vectors of one input: what ``block`` has of it."""
        if count is None or self.kernel.reads[i] == "splat":
            raws = [self._raw(i, position + LANES * v) for v in range(PACKED)]
        else:
            start = position * DTYPE_BYTES[self.kernel.inputs[i].dtype]
            first = self.sources[i].load_first(self._element(i), count, start, GRANULE)
            raws = [first.shuffle(range(LANES * v, LANES * (v + 1))) for v in range(PACKED)]
        if self.kernel.in_lanes:
            return biased(joined(raws))
        return [to_lanes(self.kernel.inputs[i].dtype, raw) for raw in raws]

    def _element(self, i: int) -> str:
        return MEMORY_ELEMENTS[self.kernel.inputs[i].dtype]

    def _raw(self, i: int, position: Value, count: Value | None = None) -> Value:
        """16 elements of one input as they are in memory, or ``count`` < 16."""
        element, source = self._element(i), self.sources[i]
        start = position * DTYPE_BYTES[self.kernel.inputs[i].dtype]
        match self.kernel.reads[i]:
            case "splat":
                return self.splats[i]
            case "vector" if count is not None:
                return source.load_first(element, count, start)
            case "vector":
                return source.load(element, start)
            case _:
                first = source + position * self.strides[i]
                return self._strided(first, element, self.strides[i], count)

    def _strided(self, source: Pointer, element: str, stride: Value, count: Value | None) -> Value:
        vector = undefined(self.b, element, LANES)
        for lane in range(LANES):
            index = self.b.i64(lane)
            if count is not None:
                index = smaller(index, count - 1)
            vector = insert_lane(vector, lane, source.load(element, index * stride, 0))
        return vector
