"""The profiling build: the run function that reads the cycle counter before and after each launch.

It is called like the ordinary one, with one more output: the counters, int64 [launches + 1]. Out of
order execution lets a kernel begin before the last one has ended: a launch's time is exact to some
tens of nanoseconds.
"""

from __future__ import annotations

from typing import Any

from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp

from uqfc.codegen.elements import ELEMENTS
from uqfc.codegen.isa import Isa
from uqfc.codegen.module import POINTER_BYTES, RUN, Compiled, Emitter, main_of
from uqfc.dialects.qkernel import LaunchOp

COUNTER_BYTES = 8


class ProfilingEmitter(Emitter):
    """Emits the calls of one function with a counter before the first and after each."""

    def __init__(
        self,
        function: FuncOp,
        input_count: int,
        isa: Isa,
        llvm: Any | None = None,
        name: str = RUN,
    ) -> None:
        super().__init__(function, input_count, isa, llvm, name)
        outputs = len(self.block.args) - input_count
        self.counters = self.b.pointer("outputs").load_pointer(outputs * POINTER_BYTES)
        self.stamps = 0
        self.stamp()

    def stamp(self) -> None:
        counter = self.b.intrinsic("llvm.readcyclecounter", ELEMENTS["i64"])
        self.counters.store(counter, self.stamps * COUNTER_BYTES, align=COUNTER_BYTES)
        self.stamps += 1

    def launch(self, op: LaunchOp) -> None:
        super().launch(op)
        self.stamp()


def emit_profiled(module: ModuleOp, input_count: int, isa: Isa) -> Compiled:
    """``module.emit_module`` with counters."""
    return ProfilingEmitter(main_of(module), input_count, isa).run()


def emit_measured(module: ModuleOp, input_count: int, isa: Isa, llvm: Any, name: str) -> Compiled:
    """``emit_profiled`` as one more function, ``name``, of the LLVM module ``llvm``."""
    return ProfilingEmitter(main_of(module), input_count, isa, llvm, name).run()
