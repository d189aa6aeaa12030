"""Code of a network of one image, called for each image of a batch by one call from Python.

``uqf_internal_run_batch(addresses, steps, pointers, inputs, arena, weights, count)`` runs the
network ``count`` times on this thread. ``addresses`` are those of the first image's inputs and
outputs, ``pointers`` in all, ``inputs`` of which are inputs; after each run they are moved on by
``steps`` bytes.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uqfc.codegen.isa import Isa
from uqfc.codegen.jit import LoadedCode, load, target_machine
from uqfc.codegen.llvm import binding as llvm
from uqfc.codegen.module import RUN
from uqfc.dialects.qkernel import ALIGNMENT

RUN_BATCH = "uqf_internal_run_batch"

_IR = f"""
declare void @{RUN}(ptr, ptr, ptr, ptr, i64, i64, ptr)

define void @{RUN_BATCH}(ptr %addresses, ptr %steps, i64 %pointers, i64 %inputs, ptr %arena,
                         ptr %weights, i64 %count) nounwind {{
entry:
  %outputs = getelementptr ptr, ptr %addresses, i64 %inputs
  %any = icmp sgt i64 %count, 0
  br i1 %any, label %image, label %end
image:
  %done = phi i64 [ 0, %entry ], [ %next, %moved ]
  call void @{RUN}(ptr %addresses, ptr %outputs, ptr %arena, ptr %weights, i64 0, i64 1, ptr null)
  br label %move
move:
  %index = phi i64 [ 0, %image ], [ %following, %move ]
  %place = getelementptr ptr, ptr %addresses, i64 %index
  %address = load ptr, ptr %place
  %where = getelementptr i64, ptr %steps, i64 %index
  %step = load i64, ptr %where
  %advanced = getelementptr i8, ptr %address, i64 %step
  store ptr %advanced, ptr %place
  %following = add i64 %index, 1
  %more = icmp slt i64 %following, %pointers
  br i1 %more, label %move, label %moved
moved:
  %next = add i64 %done, 1
  %again = icmp slt i64 %next, %count
  br i1 %again, label %image, label %end
end:
  ret void
}}
"""


@cache
def batch_object(isa: Isa) -> bytes:
    """The object code of the loop, to be linked with that of a network."""
    module: Any = llvm.parse_assembly(_IR, context=llvm.create_context())
    module.triple = isa.triple
    return target_machine(isa).emit_object(module)


def aligned_bytes(size: int) -> NDArray[np.uint8]:
    """Zeros [size] at an address that kernels take: for arenas and constants."""
    buffer = np.zeros(size + ALIGNMENT, np.uint8)
    start = -buffer.ctypes.data % ALIGNMENT
    return buffer[start : start + size]


@cache
def workers() -> ThreadPoolExecutor:
    """Threads that compute shares of batches; they sleep while there is nothing to do."""
    return ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="uqfc-batch")


class BatchCode:
    """A network of one image in this process; calls release the GIL. Thread-safe.

    ``input_bytes`` and ``output_bytes`` are the sizes of one image's inputs and outputs.
    """

    def __init__(
        self,
        objects: Sequence[bytes],
        isa: Isa,
        input_bytes: Sequence[int],
        output_bytes: Sequence[int],
        arena_bytes: int,
    ) -> None:
        self._code: LoadedCode = load([*objects, batch_object(isa)], [RUN_BATCH])
        pointers = ("ptr", "ptr", "i64", "i64", "ptr", "ptr", "i64")
        self._run = self._code.function(RUN_BATCH, *pointers)
        self._inputs = len(input_bytes)
        self._sizes = [*input_bytes, *output_bytes]
        self._steps = (ctypes.c_int64 * len(self._sizes))(*self._sizes)
        self._arena_bytes = arena_bytes
        self._local = threading.local()

    def run(self, addresses: Sequence[int], weights: int, count: int, threads: int = 1) -> None:
        """Compute ``count`` images.

        ``addresses`` are those of inputs and outputs, in order, dense, the images one after the
        other; ``weights`` is that of the constants, which have 64 readable bytes after them.
        """
        shares = max(1, min(threads, count))
        bounds = [count * share // shares for share in range(shares + 1)]
        parts = list(pairwise(bounds))
        helpers = [workers().submit(self._part, addresses, weights, *part) for part in parts[1:]]
        self._part(addresses, weights, *parts[0])
        for helper in helpers:
            helper.result()

    def _part(self, addresses: Sequence[int], weights: int, begin: int, end: int) -> None:
        starts = [a + begin * size for a, size in zip(addresses, self._sizes, strict=True)]
        table = (ctypes.c_void_p * len(starts))(*starts)
        arena = self._arena()
        self._run(table, self._steps, len(starts), self._inputs, arena, weights, end - begin)

    def _arena(self) -> int:
        """Address of this thread's arena."""
        if not hasattr(self._local, "arena"):
            self._local.arena = aligned_bytes(self._arena_bytes)
        return self._local.arena.ctypes.data
