"""The loops of an elementwise kernel: which elements are read, computed and stored together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from uqfc.codegen.builder import Builder
from uqfc.codegen.kernels.channels_last import channels_last, store_channels_last
from uqfc.codegen.kernels.elementwise_base import Lane
from uqfc.codegen.kernels.saturating import PACKED, Saturation
from uqfc.codegen.kernels.tensor import (
    DTYPE_BYTES,
    MEMORY_ELEMENTS,
    insert_lane,
    larger,
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


class Loops:
    """The loops of one kernel."""

    def __init__(self, b: Builder, kernel: ElementwiseKernel) -> None:
        self.kernel = kernel
        self.b = b
        self.rank = len(kernel.walk.sizes)
        self.names = [f"in{i}" for i in range(len(kernel.inputs))]
        self.channels = kernel.interleaved
        self.scalars = [b.value(f"s{i}") for i in range(len(kernel.scalars))]
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
            elif self.kernel.repeats:
                self._repeated(starts[:-1], starts[-1])
            else:
                self._dense(starts[:-1], starts[-1], b.i64(0))

    def _start(self, name: str, indices: Sequence[Value]) -> Pointer:
        pointer = self.b.pointer(name)
        for d, index in enumerate(indices):
            pointer = pointer + index * self.b.value(f"{name}_stride{d}")
        return pointer

    def _dense(self, sources: Sequence[Pointer], out: Pointer, start: Value) -> None:
        """Vectors along the last axis, from element ``start`` on."""
        b, n = self.b, self.b.value(f"size{self.rank - 1}")
        width = DTYPE_BYTES[self.kernel.dtype]
        reader = _Reader(self, sources, self.rank - 1)
        if self.saturation:
            packed = whole_vectors(n, PACKED * LANES)
            with b.loop(start, packed, PACKED * LANES) as i:
                out.store(self._packed([reader.read(i + LANES * v) for v in range(PACKED)]), i)
            start = larger(packed, start)
        full = whole_vectors(n)
        with b.loop(start, full, LANES) as i:
            out.store(self._chain(reader.read(i)), i * width)
        rest = n - full
        with b.when(rest.ne(0)):
            out.store_first(self._chain(reader.read(full, rest)), rest, full * width)

    def _repeated(self, sources: Sequence[Pointer], out: Pointer) -> None:
        """Blocks of the last axis, each for all of the axis before it; then what is left.

        A block is 64 elements, or at most 16 of four rows at a time.
        """
        b, rows = self.b, self.b.value(f"size{self.rank - 2}")
        n = self.b.value(f"size{self.rank - 1}")
        axis = f"_stride{self.rank - 2}"

        def at(row: Value) -> tuple[list[Pointer], Pointer]:
            names = zip(sources, self.names, strict=True)
            places = [source + row * b.value(name + axis) for source, name in names]
            return places, out + row * b.value("out" + axis)

        packed, full = whole_vectors(n, PACKED * LANES), whole_vectors(n)
        once = _Reader(self, sources, self.rank - 1)
        with b.loop(0, packed, PACKED * LANES) as i:
            positions = [i + LANES * v for v in range(PACKED)]
            same = [{k: once.lanes(k, p) for k in self.kernel.repeats} for p in positions]
            with b.loop(0, rows) as row:
                places, target = at(row)
                reader = _Reader(self, places, self.rank - 1)
                vectors = [
                    reader.read(p, known=known) for p, known in zip(positions, same, strict=True)
                ]
                target.store(self._packed(vectors), i)
        together = whole_vectors(rows, PACKED)

        def of_four_rows(i: Value, count: Value | None) -> None:
            known = {k: once.lanes(k, i, count) for k in self.kernel.repeats}
            with b.loop(0, together, PACKED) as row:
                starts = [at(row + v) for v in range(PACKED)]
                readers = [_Reader(self, places, self.rank - 1) for places, _ in starts]
                bytes_of = self._packed([reader.read(i, count, known) for reader in readers])
                self._store_rows([target for _, target in starts], bytes_of, i, count)

        with b.loop(packed, full, LANES) as i:
            of_four_rows(i, None)
        with b.when(full.lt(n)):
            of_four_rows(full, n - full)
        with b.loop(together, rows) as row:
            self._dense(*at(row), packed)

    def _store_rows(
        self, targets: Sequence[Pointer], bytes_of: Value, i: Value, count: Value | None
    ) -> None:
        """Of each row 16 elements, or ``count`` < 16, from element ``i`` on."""
        if count is None and self.kernel.joined:
            targets[0].store(bytes_of, i)
            return
        for v, target in enumerate(targets):
            part = bytes_of.shuffle(range(LANES * v, LANES * (v + 1)))
            if count is None:
                target.store(part, i)
            else:
                target.store_first(part, count, i)

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
            start = whole_vectors(n, PACKED * LANES)
            with b.loop(0, start, PACKED * LANES) as i:
                bytes_of = [
                    self._packed([r.read(i + LANES * v) for v in range(PACKED)]) for r in readers
                ]
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

    def _chain(self, lanes: list[Value]) -> Value:
        """The elements to store, from the inputs' lanes."""
        operands, scalars = self._last_operands(lanes)
        result = self.kernel.steps[-1].op.emit(self.b, operands, scalars)
        return to_memory(self.kernel.dtype, result)

    def _packed(self, vectors: Sequence[list[Value]]) -> Value:
        """The bytes of several vectors, from the inputs' lanes of each."""
        op, saturation = self.kernel.rounded, self.saturation
        assert op is not None
        assert saturation is not None
        chains = [self._last_operands(lanes) for lanes in vectors]
        operands = [of_vector for of_vector, _ in chains]
        return saturation.pack(op.before_rounding(self.b, operands, chains[0][1]))

    def _last_operands(self, lanes: list[Value]) -> tuple[list[Lane], list[Value]]:
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

    def read(
        self,
        position: Value,
        count: Value | None = None,
        known: Mapping[int, Value] | None = None,
    ) -> list[Value]:
        """16 elements of each input; those of some may be ``known``.

        Or ``count`` < 16: the other lanes hold anything.
        """
        given = known or {}
        places = range(len(self.sources))
        return [given[i] if i in given else self.lanes(i, position, count) for i in places]

    def _element(self, i: int) -> str:
        return MEMORY_ELEMENTS[self.kernel.inputs[i].dtype]

    def lanes(self, i: int, position: Value, count: Value | None = None) -> Value:
        """16 elements of one input, or ``count`` < 16."""
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
