"""``place-concats``: the inputs of a concatenation are computed where the result has them.

An input is placed if a kernel makes it, and if that kernel can write, and all that read it can
read, the rows that it has in the result (``Choice.pitched``). Where the axes before that of the
concatenation are 1, rows follow each other, and every kernel can. The other inputs are copied by
the launch of the concatenation, which is nothing if there are none. Results of concatenations are
placed in larger ones in the same way. What slices read is not copied, either, if their readers can
read it where it is.

Inputs of the network are in the caller's memory, and constants among the weights: they are copied.
So is the second place of a value that is needed in two. Results of the network are in the caller's
memory, too: what is a part of one is read by nothing else, because kernels may read past its end.

Law: exact. Only the properties ``in_place``, ``pitches`` and what ``select-kernels`` sets change.
"""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Block, SSAValue
from xdsl.passes import ModulePass

from uqfc.codegen.isa import Isa, isa_for
from uqfc.codegen.lowering import RESULT, Choice, alternatives
from uqfc.codegen.select_kernels import select
from uqfc.dialects import nn
from uqfc.dialects.layouts import Layout, parts_of, root, slice_of, views
from uqfc.dialects.qkernel import LaunchOp, yielded
from uqfc.dialects.tensors import element_count, ints, shape_of
from uqfc.targets import load_target


class Placement:
    """Decides for the launches of a block.

    ``layouts``: where values are that are parts of others, by their root. ``outside``: what is in
    the memory of results of the network.
    """

    def __init__(self, block: Block, isa: Isa, threads: int) -> None:
        self.isa = isa
        self.threads = threads
        self.launches = [op for op in block.ops if isinstance(op, LaunchOp)]
        self.layouts: dict[SSAValue, Layout] = {}
        last = block.last_op
        assert isinstance(last, ReturnOp)
        self.results = set(last.operands)
        self.outside = set(last.operands)

    def run(self) -> None:
        """Concatenations from the last to the first: one may be a part of a later one."""
        for launch in reversed(self.launches):
            op = yielded(launch.body).owner
            if isinstance(op, nn.ConcatOp):
                self.join(launch, op)
        for launch in self.launches:
            op = yielded(launch.body).owner
            if isinstance(op, nn.SliceOp):
                self.cut(launch, op)
        for launch in self.launches if self.layouts else ():
            self.settle(launch)

    def join(self, launch: LaunchOp, op: nn.ConcatOp) -> None:
        """Place the inputs of a concatenation."""
        outside = launch.outputs[0] in self.outside
        placed: list[int] = []
        for index, layout in enumerate(parts_of(op, self.layout_of(launch.outputs[0]))):
            value = root(launch.operand_of(op.inputs[index]))
            moved = layout.reshaped(shape_of(value))
            if moved is None or not self.is_movable(value) or not self.fits(value, moved):
                continue
            if outside and not has_one_reader(value):
                continue
            self.layouts[value] = moved
            self.outside |= {value} if outside else set()
            placed.append(index)
        if placed:
            launch.properties["in_place"] = ints(placed)

    def cut(self, launch: LaunchOp, op: nn.SliceOp) -> None:
        """Let the readers of a slice read its operand."""
        value = launch.outputs[0]
        operand = launch.operand_of(op.x)
        layout = slice_of(op, self.layout_of(operand))
        made_here = isinstance(root(operand).owner, LaunchOp)
        if (
            made_here
            and self.is_movable(value)
            and layout is not None
            and self.reads(value, layout)
        ):
            self.layouts[value] = layout
            launch.properties["in_place"] = ints([0])

    def layout_of(self, value: SSAValue) -> Layout:
        """Where a value is in the one that it is a part of, or on its own."""
        origin = root(value)
        layout = self.layouts.get(origin) or Layout.dense(shape_of(origin))
        reshaped = layout.reshaped(shape_of(value))
        assert reshaped is not None
        return reshaped

    def is_movable(self, value: SSAValue) -> bool:
        """Whether a value is in the arena, and not yet a part of another."""
        in_arena = isinstance(value.owner, LaunchOp) and value not in self.results
        return in_arena and value not in self.layouts and element_count(shape_of(value)) > 0

    def fits(self, value: SSAValue, layout: Layout) -> bool:
        """Whether what makes the value can write it there, and what reads it can read it."""
        maker = value.owner
        assert isinstance(maker, LaunchOp)
        dense = layout.pitch == 0
        return (dense or RESULT in self.choice(maker).pitched) and self.reads(value, layout)

    def reads(self, value: SSAValue, layout: Layout) -> bool:
        """Whether all kernels that read the value, or reshapes of it, can do so there."""
        for view in views(value):
            moved = layout.reshaped(shape_of(view))
            if moved is None or moved.pitch is None:
                return False
            for use in view.uses if moved.pitch else ():
                reader = use.operation
                if isinstance(reader, LaunchOp) and use.index not in self.choice(reader).pitched:
                    return False
        return True

    def choice(self, launch: LaunchOp) -> Choice:
        """The selected kernel, or the only one: its name may depend on the rows."""
        available = alternatives(launch, self.isa)
        named = (choice for choice in available if choice.name == launch.kernel_name)
        return available[0] if len(available) == 1 else next(named)

    def settle(self, launch: LaunchOp) -> None:
        """Tell a launch which rows it reads and writes."""
        places = [*launch.inputs, *launch.outputs]
        pitches = [self.layout_of(value).pitch or 0 for value in places]
        if not any(pitches) and not launch.parts_in_place:
            return
        if any(pitches):
            launch.properties["pitches"] = ints(pitches)
        chosen_by = None if launch.chosen_by is None else launch.chosen_by.data
        select(launch, self.choice(launch), chosen_by, self.threads)


def has_one_reader(value: SSAValue) -> bool:
    """Whether there is one use of the value, or of its reshape."""
    return all(view.uses.get_length() == 1 for view in views(value))


@dataclass(frozen=True)
class PlaceConcatsPass(ModulePass):
    """``target``: a name or the path of a table. ``threads``: most threads of a run."""

    name = "place-concats"
    target: str = "host"
    threads: int = 1

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        isa = isa_for(load_target(self.target))
        for function in op.ops:
            if isinstance(function, FuncOp):
                Placement(function.body.block, isa, self.threads).run()
