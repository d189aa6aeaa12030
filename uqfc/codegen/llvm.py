"""llvmlite, which has no type annotations, as ``Any``: the one place that imports it."""

from __future__ import annotations

from ctypes import string_at
from typing import Any

import llvmlite
import llvmlite.binding
import llvmlite.binding.ffi
import llvmlite.ir

ir: Any = llvmlite.ir
binding: Any = llvmlite.binding
VERSION = f"{llvmlite.__version__} {binding.llvm_version_info}"
"""Of llvmlite and of LLVM."""

_ffi: Any = llvmlite.binding.ffi


def _unlocked(name: str) -> Any:
    """A C function of llvmlite without the lock that llvmlite holds during every call.

    LLVM asks only that no two threads use the same context at once. Should llvmlite change what
    it keeps the function in, calls take turns again.
    """
    function = getattr(_ffi.lib, name)
    return getattr(function, "_cfn", function)


def run_passes(passes: Any, function: Any, builder: Any) -> None:
    """``passes.run(function, builder)`` that lets other threads work in other contexts."""
    _unlocked("LLVMPY_RunNewFunctionPassManager")(passes, function, builder)


def emit_object(machine: Any, module: Any) -> bytes:
    """``machine.emit_object(module)`` that lets other threads work in other contexts."""
    with _ffi.OutputString() as error:
        buffer = _unlocked("LLVMPY_TargetMachineEmitToMemory")(machine, module, 1, error)
        if not buffer:
            raise RuntimeError(str(error))
    try:
        start = _ffi.lib.LLVMPY_GetBufferStart(buffer)
        return string_at(start, _ffi.lib.LLVMPY_GetBufferSize(buffer))
    finally:
        _ffi.lib.LLVMPY_DisposeMemoryBuffer(buffer)
