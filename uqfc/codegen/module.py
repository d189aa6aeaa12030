"""A planned module → one LLVM module with all its kernels, and the blob of its constants.

The function ``uqf_internal_run(inputs, outputs, arena, weights, part, parts, sync)`` calls the
kernels in order, or a part's share of each (see ``parts``). All addresses are constants from the
start of the arena or of the blob.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import MemRefType, ModuleOp
from xdsl.dialects.func import FuncOp
from xdsl.ir import BlockArgument, SSAValue

from uqfc.codegen.builder import Builder, new_module
from uqfc.codegen.garbage import collector_paused
from uqfc.codegen.isa import Isa, amx
from uqfc.codegen.lowering import choose
from uqfc.codegen.parts import Parts
from uqfc.codegen.units import emptied
from uqfc.codegen.vector import Pointer
from uqfc.dialects.nn import ConstantOp
from uqfc.dialects.qkernel import ALIGNMENT, ArenaOp, LaunchOp, ViewOp

RUN = "uqf_internal_run"
POINTER_BYTES = 8


class Blob:
    """Constants one after the other, each aligned to 64 bytes.

    Equal ones are stored once if they may be ``shared``; if not, the place of each depends on
    nothing but the sizes of those before it.
    """

    def __init__(self, shared: bool = True) -> None:
        self.shared = shared
        self._parts: list[bytes] = []
        self._offsets: dict[bytes, int] = {}
        self.size = 0

    def add(self, array: NDArray[Any]) -> int:
        """The offset of the array's bytes."""
        data = np.ascontiguousarray(array).tobytes()
        if self.shared and data in self._offsets:
            return self._offsets[data]
        offset = self.size
        padding = -len(data) % ALIGNMENT
        self._parts += [data, bytes(padding)]
        self._offsets[data] = offset
        self.size += len(data) + padding
        return offset

    def bytes(self) -> bytes:
        """All constants, and 64 bytes that kernels may read past the last one."""
        return b"".join([*self._parts, bytes(ALIGNMENT)])


@dataclass(frozen=True)
class Compiled:
    """LLVM module (llvmlite, or its text), constants, and the size of the arena in bytes.

    ``offsets``: where in ``weights`` a constant operand of a launch is, by its index.
    """

    module: Any
    weights: bytes
    arena_bytes: int
    offsets: Mapping[tuple[LaunchOp, int], int]


def main_of(module: ModuleOp) -> FuncOp:
    for op in module.ops:
        if isinstance(op, FuncOp) and op.sym_name.data == "main":
            return op
    raise ValueError("module has no function @main")


class Emitter:
    """Emits the calls of one function, called ``name``, into a module of its own or ``llvm``."""

    def __init__(
        self,
        function: FuncOp,
        input_count: int,
        isa: Isa,
        llvm: Any | None = None,
        name: str = RUN,
        threads: int = 1,
        shared: bool = True,
    ) -> None:
        self.block = function.body.block
        self.input_count = input_count
        self.isa = isa
        self.llvm = new_module(isa, "uqfc") if llvm is None else llvm
        self.blob = Blob(shared)
        self.offsets: dict[tuple[LaunchOp, int], int] = {}
        parameters = dict.fromkeys(("inputs", "outputs", "arena", "weights"), "ptr")
        parameters |= {"part": "i64", "parts": "i64", "sync": "ptr"}
        self.b = Builder.function(self.llvm, isa, name, internal=False, **parameters)
        self.parts = Parts(self.b, threads)
        self.arguments = [self.load_argument(a) for a in self.block.args]
        if isa.tiles:
            amx.configure(self.b)

    def load_argument(self, argument: BlockArgument) -> Pointer:
        """The caller's pointer to an input or an output."""
        is_input = argument.index < self.input_count
        table = self.b.pointer("inputs" if is_input else "outputs")
        place = argument.index if is_input else argument.index - self.input_count
        return table.load_pointer(place * POINTER_BYTES)

    def run(self) -> Compiled:
        arena_bytes = 0
        for op in self.block.ops:
            if isinstance(op, ArenaOp):
                arena_bytes = op.size
            elif isinstance(op, LaunchOp):
                self.launch(op)
        if self.isa.tiles:
            amx.release(self.b)
        self.parts.finish()
        self.b.ret()
        return Compiled(self.llvm, self.blob.bytes(), arena_bytes, self.offsets)

    def launch(self, op: LaunchOp) -> None:
        choice = choose(op, self.isa)
        inputs: list[Pointer] = []
        for index, value in enumerate(op.inputs):
            if isinstance(value.type, MemRefType):
                inputs.append(self.memory(value))
                continue
            owner = value.owner
            if not isinstance(owner, ConstantOp):
                raise ValueError("an operand of a planned kernel is neither memory nor constant")
            layout = choice.layouts.get(index)
            array = owner.array if layout is None else layout(owner.array)
            self.offsets[op, index] = self.blob.add(array)
            inputs.append(self.b.pointer("weights") + self.offsets[op, index])
        out = self.memory(op.into[0])
        with self.parts.launch(op.split is not None) as part:
            scratch = None
            if op.scratch is not None:
                scratch = self.b.pointer("arena") + op.scratch.value.data
                scratch = self.parts.own_scratch(scratch, choice.scratch_bytes, part)
            choice.emit_call(self.b, inputs, out, scratch, part)

    def memory(self, value: SSAValue) -> Pointer:
        if isinstance(value, BlockArgument):
            return self.arguments[value.index]
        view = value.owner
        if not isinstance(view, ViewOp):
            raise ValueError("memory is neither an argument nor a view of the arena")
        of_result = isinstance(view.arena, BlockArgument)
        start = self.memory(view.arena) if of_result else self.b.pointer("arena")
        return start + view.offset.value.data


@collector_paused()
def emit_module(
    module: ModuleOp, input_count: int, isa: Isa, threads: int = 1, *, shared: bool = True
) -> Compiled:
    """LLVM code, as text, of ``@main`` after ``plan-memory``; its first ``input_count`` arguments
    are inputs.

    A run may have ``threads`` parts, for which the memory was planned. ``shared``: equal constants
    are stored once; without it, constants can be replaced by others of their size.
    """
    emitter = Emitter(main_of(module), input_count, isa, threads=threads, shared=shared)
    compiled = emitter.run()
    return replace(compiled, module=emptied(compiled.module))
