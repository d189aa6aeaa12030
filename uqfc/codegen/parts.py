"""How one run is divided: every *part* walks through all kernels and computes its share of each.

A kernel that is worth it is *split*: each part gets a range of its outermost loop, in whole
granules, and scratch memory of its own. All others run on part 0. Between kernels all parts meet
at a barrier (``team``), but for kernels of part 0 that follow each other; and at the end, so that
all is done when any part returns. Code for one thread has none of this.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

from uqfc.codegen.builder import Builder, find_function
from uqfc.codegen.elements import ELEMENTS
from uqfc.codegen.llvm import ir
from uqfc.codegen.vector import Pointer, Value
from uqfc.codegen.work import Work
from uqfc.packing import round_up

BARRIER = "uqf_internal_barrier"

MACS_PER_CYCLE, BYTES_PER_CYCLE = 64, 16
"""For rough estimates of what a kernel takes on one core."""
LEAST_CYCLES = 2000
"""Estimated cycles of a kernel that is worth splitting.

A barrier takes 50 to 150 ns (two cores of one x86 package), a split kernel may add one, and shares
are never quite equal: half of 2000 cycles at 3 to 4 GHz is about twice that.
"""

_SLACK = 64
"""Readable bytes after the scratch memory of a part, and its alignment."""


@dataclass(frozen=True)
class Part:
    """Number ``index`` of ``count`` parts: i64 values of the function that is being emitted."""

    index: Value
    count: Value

    def share(self, total: int, granule: int = 1) -> tuple[Value, Value]:
        """This part's ``begin`` and ``end`` in ``range(total)``; empty where there is too little.

        ``begin`` is a multiple of ``granule``, and so is ``end`` but for the last.
        """
        units = -(-total // granule)
        begin = self.index * units // self.count * granule
        end = (self.index + 1) * units // self.count * granule
        if total % granule:
            end = end.b.select(end.lt(total), end, end.b.i64(total))
        return begin, end


def is_worth_splitting(work: Work) -> bool:
    """Whether a launch takes so long that it should be split."""
    return work.macs // MACS_PER_CYCLE + work.bytes // BYTES_PER_CYCLE >= LEAST_CYCLES


def scratch_of_parts(one: int, threads: int) -> int:
    """The scratch memory of all parts of a kernel; ``one``: of one part."""
    return _stride(one) * threads if one else 0


def _stride(one: int) -> int:
    return round_up(one + _SLACK, _SLACK)


class Parts:
    """Emits what is around the kernels in a function with ``part``, ``parts`` and ``sync``."""

    def __init__(self, b: Builder, threads: int) -> None:
        self.b = b
        self.threads = threads
        self._last_was_split: bool | None = None

    @contextmanager
    def launch(self, split: bool) -> Generator[Part | None]:
        """Around the call of a kernel: the part that it computes, None if that is all of it."""
        if self.threads == 1:
            yield None
            return
        if self._last_was_split or (split and self._last_was_split is not None):
            self._barrier()
        self._last_was_split = split
        part = Part(self.b.value("part"), self.b.value("parts"))
        if split:
            yield part
            return
        with self.b.when(part.index.eq(0)):
            yield None

    def own_scratch(self, scratch: Pointer, one: int, part: Part | None) -> Pointer:
        """The part's scratch memory, of ``one`` byte or more, in that of all parts."""
        return scratch if part is None else scratch + part.index * _stride(one)

    def finish(self) -> None:
        """After the last kernel."""
        if self._last_was_split is not None:
            self._barrier()

    def _barrier(self) -> None:
        b = self.b
        kind = ir.FunctionType(ir.VoidType(), [ir.PointerType(), ELEMENTS["i64"]])
        barrier = find_function(b.module, BARRIER)
        if barrier is None:
            barrier = ir.Function(b.module, kind, BARRIER)
        with b.when(b.value("parts").ne(1)):
            b.call(barrier, b.pointer("sync"), b.value("parts"))
