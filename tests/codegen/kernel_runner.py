"""Compiles one tensor kernel, and runs it on memory that ends at an unreadable page."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from uqfc.codegen import jit
from uqfc.codegen.builder import Builder, new_module
from uqfc.codegen.isa import ISAS, Isa
from uqfc.codegen.kernels.tensor import TensorKernel
from uqfc_runtime.cpu import cpu_features

Array = NDArray[Any]

GUARD = 256
"""Bytes around the result that a kernel must not touch."""
CANARY = 0xA5


def runs_here(isa: Isa) -> bool:
    return set(isa.required) <= cpu_features()


AVAILABLE = [isa for isa in ISAS.values() if runs_here(isa)]

every_isa = pytest.mark.parametrize(
    "isa",
    [
        pytest.param(
            isa,
            id=isa.name,
            marks=pytest.mark.skipif(not runs_here(isa), reason=f"this CPU has no {isa.name}"),
        )
        for isa in ISAS.values()
    ],
)


@contextmanager
def guarded(array: Array, readable: int) -> Generator[int, None, None]:
    """The address of a copy of ``array`` that has ``readable`` bytes after it, then no memory."""
    libc = ctypes.CDLL(None, use_errno=True)
    page = mmap.PAGESIZE
    content = np.ascontiguousarray(array).tobytes()
    size = -(-(len(content) + readable) // page) * page
    memory = mmap.mmap(-1, size + page)
    anchor = (ctypes.c_char * (size + page)).from_buffer(memory)
    base = ctypes.addressof(anchor)
    address = base + size - readable - len(content)
    ctypes.memset(base, 0x7F, size)
    ctypes.memmove(address, content, len(content))
    last = ctypes.c_void_p(base + size)
    assert libc.mprotect(last, ctypes.c_size_t(page), 0) == 0
    try:
        yield address
    finally:
        assert libc.mprotect(last, ctypes.c_size_t(page), 3) == 0
        del anchor
        memory.close()


def compile_kernel(kernel: TensorKernel, inputs: int) -> Any:
    """``f(pointers of inputs, out, scratch)`` as a ctypes function."""
    module = new_module(kernel.isa, "test")
    b = Builder.function(module, kernel.isa, "run", inputs="ptr", out="ptr", scratch="ptr")
    pointers = [b.pointer("inputs").load_pointer(8 * i) for i in range(inputs)]
    kernel.call(b, pointers, b.pointer("out"), b.pointer("scratch"))
    b.ret()
    loaded = jit.load(jit.compile_object(module, kernel.isa), ["run"])
    return loaded.function("run", "ptr", "ptr", "ptr")


def aligned(size: int) -> tuple[Array, int]:
    """Bytes (to be kept alive) and the 64-byte aligned address of ``size`` of them."""
    memory = np.full(size + 64, CANARY, np.uint8)
    return memory, -(-memory.ctypes.data // 64) * 64


def run_kernel(
    kernel: TensorKernel, inputs: Sequence[Array], shape: Sequence[int], dtype: Any
) -> Array:
    """The result of one call. Reading or writing outside of what the kernel may is an error."""
    function = compile_kernel(kernel, len(inputs))
    result = np.full(int(np.prod(shape)) * np.dtype(dtype).itemsize + 2 * GUARD, CANARY, np.uint8)
    scratch, scratch_address = aligned(kernel.scratch_bytes + GUARD)
    addresses: list[int] = []
    open_memory = [guarded(a, kernel.over_read) for a in inputs]
    try:
        addresses = [m.__enter__() for m in open_memory]
        table = (ctypes.c_void_p * max(1, len(addresses)))(*addresses)
        out = result.ctypes.data + GUARD
        function(ctypes.addressof(table), out, scratch_address)
    finally:
        for m in open_memory:
            m.__exit__(None, None, None)
    outside = np.concatenate([result[:GUARD], result[-GUARD:]])
    assert (outside == CANARY).all(), f"{kernel.name} wrote outside of its result"
    end = scratch_address - scratch.ctypes.data + kernel.scratch_bytes
    assert (scratch[end:] == CANARY).all(), f"{kernel.name} wrote past its scratch memory"
    return result[GUARD:-GUARD].view(dtype).reshape(shape).copy()


def assert_same(got: Array, want: Array) -> None:
    """Equal bits; any NaN equals any NaN."""
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    if got.dtype == np.float32:
        nans = np.isnan(got) & np.isnan(want)
        got = np.where(nans, np.float32(0), got).view(np.int32)
        want = np.where(nans, np.float32(0), want).view(np.int32)
    np.testing.assert_array_equal(got, want)
