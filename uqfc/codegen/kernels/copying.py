"""Copies of bytes and of strided tensors: what every data movement is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from uqfc.codegen.builder import Builder, find_function
from uqfc.codegen.isa import Isa
from uqfc.codegen.kernels.channels_last import store_channels_last
from uqfc.codegen.kernels.geometry import Walk, collapse
from uqfc.codegen.kernels.tensor import (
    Argument,
    FunctionKernel,
    Shape,
    insert_lane,
    nest,
    smaller,
    undefined,
    whole_vectors,
)
from uqfc.codegen.kernels.transposing import Lines, copy_transposed
from uqfc.codegen.vector import LANES, Pointer, Value

CHUNK = 64
MOST_GROUPS = 4
"""Rows that are interleaved in vectors."""
ELEMENTS = {1: "i8", 4: "i32", 8: "i64"}
"""How elements of so many bytes are moved."""


def copy_bytes(b: Builder, source: Pointer, target: Pointer, count: Value) -> None:
    """Copies exactly ``count`` bytes between places that do not overlap."""
    full = whole_vectors(count, CHUNK)
    with b.loop(0, full, CHUNK) as i:
        target.store(source.load("i8", i, CHUNK), i)
    rest = count - full
    if b.isa.masked_memory:
        with b.when(rest.ne(0)):
            target.store_first(source.load_first("i8", rest, full, CHUNK), rest, full)
        return
    piece = CHUNK // 2
    while piece:
        with b.when((rest & piece).ne(0)):
            offset = full + (rest & ~(2 * piece - 1))
            target.store(source.load("i8", offset, piece), offset)
        piece //= 2


@dataclass(frozen=True)
class CopyKernel(FunctionKernel):
    """``out[offset + i · out_strides] = x[offset + i · in_strides]`` for every i below ``sizes``.

    Sizes, strides and offsets count elements; strides of ``x`` may be zero or negative, those of
    ``out`` are positive. The loops run in the order given: put the smallest ``out`` stride last.
    """

    isa: Isa
    element_bytes: int
    sizes: Shape
    in_strides: Shape
    out_strides: Shape
    in_offset: int = 0
    out_offset: int = 0

    @cached_property
    def walk(self) -> Walk:
        """Loops; strides of ``x``, then of ``out``."""
        return collapse(self.sizes, [self.in_strides, self.out_strides])

    @cached_property
    def interleaving(self) -> tuple[int, int] | None:
        """Rows of bytes that are stored element by element, as in a channel shuffle of so many
        groups, and the lanes of their vectors; None if that is not what is copied."""
        source, target = self.walk.strides
        if self.element_bytes != 1 or len(target) < 2:
            return None
        count, groups = self.walk.sizes[-2:]
        interleaves = source[-2] == 1 and target[-2:] == (groups, 1) and 2 <= groups <= MOST_GROUPS
        lanes = 2 * LANES if groups == 2 and count >= 2 * LANES else LANES
        return (groups, lanes) if interleaves and count >= lanes else None

    @cached_property
    def mode(self) -> str:
        """How the innermost loop (or two) is done."""
        if self.interleaving:
            return "interleaved{}x{}".format(*self.interleaving)
        source, target = self.walk.strides
        if target[-1] != 1:
            return "elements"
        if source[-1] == 1:
            return "bytes"
        if source[-1] == 0:
            return "splat"
        planes = source[-2:-1] == (1,) and self.element_bytes == 4
        return "transposed" if planes else "strided"

    @property
    def name(self) -> str:
        rank = len(self.walk.sizes)
        return f"copy_{self.mode}_b{self.element_bytes}_d{rank}__{self.isa.name}"

    def emit(self, module: Any) -> Any:
        """``f(x, out, size0, …, strides of x in bytes, …, strides of out in bytes, …)``."""
        if function := find_function(module, self.name):
            return function
        loops = range(len(self.walk.sizes))
        parameters = {"x": "ptr", "out": "noalias"}
        parameters |= {f"size{d}": "i64" for d in loops}
        parameters |= {f"x_stride{d}": "i64" for d in loops}
        parameters |= {f"out_stride{d}": "i64" for d in loops}
        b = Builder.function(module, self.isa, self.name, internal=True, **parameters)
        _Copy(self, b).run()
        return b.ret()

    def arguments(
        self, inputs: Sequence[Pointer], out: Pointer, scratch: Pointer | None
    ) -> list[Argument]:
        width = self.element_bytes
        strides = [s * width for own in self.walk.strides for s in own]
        source = inputs[0] + self.in_offset * width
        return [source, out + self.out_offset * width, *self.walk.sizes, *strides]


class _Copy:
    """The body of a ``CopyKernel``."""

    def __init__(self, kernel: CopyKernel, b: Builder) -> None:
        self.b = b
        self.width = kernel.element_bytes
        self.element = ELEMENTS[kernel.element_bytes]
        self.mode = kernel.mode
        self.interleaving = kernel.interleaving
        self.rank = len(kernel.walk.sizes)

    def run(self) -> None:
        b = self.b
        inner = 2 if self.interleaving or self.mode == "transposed" else 1
        outer = range(self.rank - inner)
        with nest(b, [b.value(f"size{d}") for d in outer]) as indices:
            source, target = b.pointer("x"), b.pointer("out")
            for d, index in zip(outer, indices, strict=True):
                source = source + index * b.value(f"x_stride{d}")
                target = target + index * b.value(f"out_stride{d}")
            self._innermost(source, target, b.value(f"size{self.rank - 1}"))

    def _innermost(self, source: Pointer, target: Pointer, count: Value) -> None:
        last = self.rank - 1
        step = self.b.value(f"x_stride{last}")
        if self.interleaving:
            self._interleaved(source, target, self.b.value(f"size{last - 1}"), step)
            return
        match self.mode:
            case "bytes":
                copy_bytes(self.b, source, target, count * self.width)
            case "splat":
                self._splat(source, target, count)
            case "strided":
                self._strided(source, target, count, step)
            case "transposed":
                rows = self.b.value(f"size{last - 1}")
                pitch = self.b.value(f"out_stride{last - 1}")
                copy_transposed(self.b, Lines(source, step), Lines(target, pitch), rows, count)
            case _:
                out_step = self.b.value(f"out_stride{last}")
                self._elements(source, target, (self.b.i64(0), count), (step, out_step))

    def _splat(self, source: Pointer, target: Pointer, count: Value) -> None:
        b = self.b
        value = source.load(self.element, 0, 0).splat(LANES)
        full = whole_vectors(count)
        with b.loop(0, full, LANES) as i:
            target.store(value, i * self.width)
        rest = count - full
        with b.when(rest.ne(0)):
            target.store_first(value, rest, full * self.width)

    def _interleaved(self, source: Pointer, target: Pointer, count: Value, step: Value) -> None:
        """Rows ``step`` bytes apart, of ``count`` elements: at least a vector. The last one may
        have elements of the one before it."""
        assert self.interleaving is not None
        groups, lanes = self.interleaving
        with self.b.loop(0, count, lanes) as i:
            start = smaller(i, count - lanes)
            rows = [source + (start + step * g) for g in range(groups)]
            store_channels_last(target + start * groups, [row.load("i8", 0, lanes) for row in rows])

    def _strided(self, source: Pointer, target: Pointer, count: Value, step: Value) -> None:
        b = self.b
        full = whole_vectors(count)
        with b.loop(0, full, LANES) as i:
            vector = undefined(b, self.element, LANES)
            for lane in range(LANES):
                scalar = source.load(self.element, (i + lane) * step, 0)
                vector = insert_lane(vector, lane, scalar)
            target.store(vector, i * self.width)
        self._elements(source, target, (full, count), (step, b.i64(self.width)))

    def _elements(
        self,
        source: Pointer,
        target: Pointer,
        bounds: tuple[Value, Value],
        steps: tuple[Value, Value],
    ) -> None:
        with self.b.loop(*bounds) as i:
            scalar = source.load(self.element, i * steps[0], 0)
            target.store(scalar, i * steps[1])


@dataclass(frozen=True)
class FillKernel(FunctionKernel):
    """``count`` elements of ``out`` with the same bits."""

    isa: Isa
    element_bytes: int
    count: int
    bits: int
    """The element as a signed integer of its width."""

    @property
    def name(self) -> str:
        return f"fill_b{self.element_bytes}__{self.isa.name}"

    def emit(self, module: Any) -> Any:
        """``f(out, count, bits)``."""
        if function := find_function(module, self.name):
            return function
        element = ELEMENTS[self.element_bytes]
        parameters = {"out": "noalias", "count": "i64", "bits": element}
        b = Builder.function(module, self.isa, self.name, internal=True, **parameters)
        out, count, value = b.pointer("out"), b.value("count"), b.value("bits").splat(LANES)
        full = whole_vectors(count)
        with b.loop(0, full, LANES) as i:
            out.store(value, i * self.element_bytes)
        rest = count - full
        with b.when(rest.ne(0)):
            out.store_first(value, rest, full * self.element_bytes)
        return b.ret()

    def arguments(
        self, inputs: Sequence[Pointer], out: Pointer, scratch: Pointer | None
    ) -> list[Argument]:
        return [out, self.count, self.bits]
