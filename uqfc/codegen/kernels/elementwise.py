"""One loop nest for a chain of elementwise ops over broadcast and transposed inputs.

The operands are walked with the fewest loops (``geometry.collapse``); the innermost has vectors of
16 lanes, or of 64 where bytes are rounded and packed together. If the result has a few interleaved
channels innermost and the inputs are planes (an image from NCHW to NHWC), vectors run along the
planes and are interleaved when stored.

No input is read past its end. ``out`` may be an input of the same shape, strides and element size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import lcm
from typing import Any, cast

from uqfc.codegen.builder import Builder, find_function
from uqfc.codegen.isa import Isa
from uqfc.codegen.kernels.elementwise_base import ElementwiseOp, RoundedOp
from uqfc.codegen.kernels.elementwise_loops import GRANULE, MOST_REPEATED, Loops
from uqfc.codegen.kernels.geometry import Walk, broadcast_strides, collapse, dense_strides
from uqfc.codegen.kernels.saturating import packs
from uqfc.codegen.kernels.tensor import (
    DTYPE_BYTES,
    Argument,
    Dtype,
    FunctionKernel,
    Shape,
    structure_name,
)
from uqfc.codegen.parts import Part
from uqfc.codegen.vector import LANES, Pointer
from uqfc.dialects.layouts import row_strides

MAX_INTERLEAVED = 4
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

    ``pitch``: elements from row to row of the result, as ``row_strides`` takes them; rows are of
    more than one element then.
    ValueError if an input does not broadcast or an op does not take its operands.
    """

    isa: Isa
    shape: Shape
    inputs: tuple[Input, ...]
    steps: tuple[Step, ...]
    pitch: int = 0

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
        return collapse(self.shape, [*strides, row_strides(self.shape, self.pitch)])

    @cached_property
    def interleaved(self) -> int:
        """Interleaved channels of the result if the planar form applies, else 0."""
        sizes = self.walk.sizes
        if len(sizes) < 2 or not 1 < sizes[-1] <= MAX_INTERLEAVED or sizes[-2] < LANES:
            return 0
        *inputs, result = self.walk.strides
        planar = result[-2] == sizes[-1] and all(s[-2] in (0, 1) for s in inputs)
        return sizes[-1] if planar else 0

    @cached_property
    def reads(self) -> tuple[str, ...]:
        """How each input is read along the vectors: ``splat``, ``vector`` or ``strided``."""
        axis = -2 if self.interleaved else -1
        kinds = {0: "splat", 1: "vector"}
        return tuple(kinds.get(s[axis], "strided") for s in self.walk.strides[:-1])

    @property
    def rounded(self) -> RoundedOp | None:
        """The last op if its results are packed together."""
        op = self.steps[-1].op
        return op if isinstance(op, RoundedOp) and packs(self.isa) else None

    @property
    def in_lanes(self) -> bool:
        """Operands of vectors that are packed together are ``biased``, and in the order of that."""
        return self.rounded is not None and self.rounded.takes_biased and len(self.steps) == 1

    @cached_property
    def repeats(self) -> tuple[int, ...]:
        """Inputs whose rows (the last axis) are the same along the axis before it, where blocks
        are packed together: they are read once for each block."""
        if not self.rounded or self.interleaved or not self.walk.outer or "strided" in self.reads:
            return ()
        inputs = enumerate(zip(self.reads, self.walk.strides, strict=False))
        return tuple(i for i, (read, s) in inputs if read == "vector" and s[-2] == 0)

    @cached_property
    def grouped(self) -> bool:
        """Everything but what repeats is dense along both axes: blocks go on in the next row."""
        n, strides = self.walk.sizes[-1], self.walk.strides
        if not self.repeats or {s[-2:] for s in strides} != {(0, 1), (n, 1)}:
            return False
        widest = max(DTYPE_BYTES[self.inputs[i].dtype] for i in self.repeats)
        return 0 < lcm(n, GRANULE) * widest <= MOST_REPEATED

    @property
    def name(self) -> str:
        ops = tuple((s.op.label, s.operands) for s in self.steps)
        loops = (self.walk.outer, self.interleaved, self.repeats, self.grouped)
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
        Loops(b, self).run()
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
        """The loop that parts share, and its granule: the outermost of some length.

        Rows of groups stay whole.
        """
        vectors = len(self.walk.sizes) - (2 if self.interleaved else 1)
        loops = vectors if self.grouped else vectors + 1
        granules = [GRANULE if d == vectors else 1 for d in range(loops)]
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
