"""``plan-memory``: one static arena; every buffer gets an offset, every launch writes in place.

Buffers live from the launch that writes them to the last that reads them. The largest are placed
first, each at the lowest offset that is free for its whole life (greedy by size: Pisarchyk and Lee,
"Efficient memory management for deep neural net inference", 2020). Every buffer is followed by
``SLACK`` readable bytes, because kernels may load whole vectors.

The function then takes memrefs, inputs first, and returns nothing; ``nn.reshape`` becomes a second
view of the same bytes. What is in place (``LaunchOp.in_place``) is a view of a part of the other's
buffer, which lives as long as any of its parts; a launch with nothing left to move is dropped.

Law: exact; two buffers overlap only if their lives do not, and a part only what it is a part of.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from xdsl.context import Context
from xdsl.dialects.builtin import FunctionType, MemRefType, ModuleOp
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.rewriter import InsertPoint, Rewriter

from uqfc.dialects import nn
from uqfc.dialects.layouts import Layout, parts_of, root, slice_of
from uqfc.dialects.qkernel import ALIGNMENT, ArenaOp, LaunchOp, ViewOp, memref_bytes
from uqfc.dialects.tensors import element_of, integer, numpy_dtype, shape_of

SLACK = 64
"""Readable bytes after every buffer."""


@dataclass(frozen=True)
class Buffer:
    """``size`` bytes that are alive from step ``first`` to step ``last``, both included."""

    size: int
    first: int
    last: int

    def overlaps(self, other: Buffer) -> bool:
        return self.first <= other.last and other.first <= self.last


def place(buffers: Iterable[Buffer]) -> tuple[list[int], int]:
    """An offset for each buffer (multiples of ``ALIGNMENT``) and the size of the arena."""
    listed = list(buffers)
    order = sorted(range(len(listed)), key=lambda i: (-listed[i].size, listed[i].first, i))
    offsets = [0] * len(listed)
    placed: list[int] = []
    for index in order:
        buffer = listed[index]
        taken = sorted(
            (offsets[j], offsets[j] + listed[j].size) for j in placed if buffer.overlaps(listed[j])
        )
        offset = 0
        for start, end in taken:
            if offset + buffer.size <= start:
                break
            offset = max(offset, end)
        offsets[index] = offset
        placed.append(index)
    total = max((o + b.size for o, b in zip(offsets, listed, strict=True)), default=0)
    return offsets, total


def padded(size: int) -> int:
    """Bytes that a buffer of ``size`` occupies: slack, then up to the alignment."""
    return -(-(size + SLACK) // ALIGNMENT) * ALIGNMENT


def last_reads(launches: list[LaunchOp]) -> dict[SSAValue, int]:
    """The last step that reads each value (by its root)."""
    reads: dict[SSAValue, int] = {}
    for step, launch in enumerate(launches):
        for value in launch.inputs:
            reads[root(value)] = step
    return reads


def memref(value: SSAValue) -> MemRefType[Attribute]:
    return MemRefType(element_of(value), list(shape_of(value)))


Home: TypeAlias = tuple[SSAValue, Layout]
"""The value whose buffer another is a part of, and where it is there."""


def home_of(value: SSAValue, homes: Mapping[SSAValue, Home]) -> Home:
    """Of any value of the arena: its own buffer, if it is not a part of another's."""
    origin = root(value)
    base, layout = homes.get(origin) or (origin, Layout.dense(shape_of(origin)))
    reshaped = layout.reshaped(shape_of(value))
    if reshaped is None:
        raise ValueError(f"{value} is in place, but not as a tensor of rows")
    return base, reshaped


def find_homes(launches: Sequence[LaunchOp]) -> dict[SSAValue, Home]:
    """The homes of values that are parts of others: see ``LaunchOp.in_place``.

    Results of concatenations are found after what they are parts of, as that is computed later,
    and slices after their operands.
    """
    homes: dict[SSAValue, Home] = {}
    for launch in reversed(launches):
        op = launch.meaning[-1]
        if not launch.parts_in_place or not isinstance(op, nn.ConcatOp):
            continue
        base, whole = home_of(launch.outputs[0], homes)
        layouts = parts_of(op, whole)
        for part in launch.parts_in_place:
            origin = root(launch.operand_of(op.inputs[part]))
            layout = layouts[part].reshaped(shape_of(origin))
            assert layout is not None
            homes[origin] = base, layout
    for launch in launches:
        op = launch.meaning[-1]
        if launch.parts_in_place and isinstance(op, nn.SliceOp):
            base, whole = home_of(launch.operand_of(op.x), homes)
            layout = slice_of(op, whole)
            assert layout is not None
            homes[launch.outputs[0]] = base, layout
    return homes


def moves_nothing(launch: LaunchOp) -> bool:
    """Whether all elements of the result are there before the launch."""
    op = launch.meaning[-1]
    return len(launch.parts_in_place) == (len(op.inputs) if isinstance(op, nn.ConcatOp) else 1)


class Plan:
    """The plan of one function and its application."""

    def __init__(self, function: FuncOp) -> None:
        self.function = function
        self.block = function.body.block
        self.launches = [op for op in self.block.ops if isinstance(op, LaunchOp)]
        last = self.block.last_op
        assert isinstance(last, ReturnOp)
        self.returns = last
        self.results = list(last.operands)
        self.homes = find_homes(self.launches)

    def run(self) -> None:
        owners: dict[SSAValue | LaunchOp, Buffer] = {}
        reads = last_reads(self.launches)
        for step, launch in enumerate(self.launches):
            value = launch.outputs[0]
            base, _ = home_of(value, self.homes)
            if base not in self.results:
                first = owners[base].first if base in owners else step
                last = max(reads.get(value, step), owners[base].last if base in owners else step)
                owners[base] = Buffer(padded(memref_bytes(base.type)), first, last)
            if launch.scratch_bytes is not None and launch.scratch_bytes.value.data:
                size = padded(launch.scratch_bytes.value.data)
                owners[launch] = Buffer(size, step, step)
        offsets, total = place(owners.values())
        self.apply(dict(zip(owners, offsets, strict=True)), total)

    def apply(self, offsets: dict[SSAValue | LaunchOp, int], total: int) -> None:
        arena = ArenaOp(total)
        Rewriter.insert_op(arena, InsertPoint.at_start(self.block))
        places: dict[SSAValue, SSAValue] = {}
        for argument in list(self.block.args):
            Rewriter.replace_value_with_new_type(argument, memref(argument))
        for value in self.results:
            count = len(self.block.args)
            places[value] = self.block.insert_arg(memref(value), count)
        for op in list(self.block.ops):
            value = moved_by(op)
            if value is not None and value not in places:
                view = self.view(arena, value, offsets, places)
                Rewriter.insert_op(view, InsertPoint.before(op))
                places[value] = view.result
        for launch in self.launches:
            if launch in offsets:
                launch.properties["scratch"] = integer(offsets[launch])
            if not moves_nothing(launch):
                write_into(launch, places)
        Rewriter.replace_op(self.returns, ReturnOp())
        for op in reversed(list(self.block.ops)):
            if isinstance(op, nn.ReshapeOp) or (isinstance(op, LaunchOp) and op.outputs):
                Rewriter.erase_op(op)
        self.function.properties["function_type"] = FunctionType.from_lists(
            [a.type for a in self.block.args], []
        )

    def view(
        self,
        arena: ArenaOp,
        value: SSAValue,
        offsets: Mapping[SSAValue | LaunchOp, int],
        places: Mapping[SSAValue, SSAValue],
    ) -> ViewOp:
        """The bytes of a value, which are in the arena or a part of a result."""
        base, layout = home_of(value, self.homes)
        element, pitch = element_of(value), layout.pitch
        assert pitch is not None
        offset = layout.offset * numpy_dtype(element).itemsize
        if base in self.results:
            return ViewOp(places[base], offset, shape_of(value), element, pitch)
        return ViewOp(arena, offsets[base] + offset, shape_of(value), element, pitch)


def moved_by(op: Operation) -> SSAValue | None:
    """The value that an op gives: that of a kernel, or another view of it."""
    if isinstance(op, nn.ReshapeOp):
        return op.result
    return op.outputs[0] if isinstance(op, LaunchOp) else None


def write_into(launch: LaunchOp, places: dict[SSAValue, SSAValue]) -> None:
    """Insert before the launch the same one that reads and writes memory; it takes the body."""
    inputs = [places.get(v, v) for v in launch.inputs]
    body = launch.detach_region(0)
    placed = LaunchOp(inputs, body, into=places[launch.outputs[0]])
    placed.attributes.update(launch.attributes)
    placed.copy_selection(launch)
    Rewriter.insert_op(placed, InsertPoint.before(launch))


@dataclass(frozen=True)
class PlanMemoryPass(ModulePass):
    """See the module's documentation."""

    name = "plan-memory"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for function in op.ops:
            if isinstance(function, FuncOp):
                Plan(function).run()
