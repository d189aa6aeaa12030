"""LLVM module → object code for an ``Isa`` → callable functions of this process."""

from __future__ import annotations

import ctypes
import itertools
import os
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from uqfc.cache import Cache, key_of
from uqfc.codegen.isa import Isa
from uqfc.codegen.llvm import VERSION, emit_object, run_passes
from uqfc.codegen.llvm import binding as llvm
from uqfc.codegen.units import split
from uqfc.version import __version__

C_TYPES: dict[str, Any] = {
    "ptr": ctypes.c_void_p,
    "i64": ctypes.c_int64,
    "i32": ctypes.c_int32,
    "f32": ctypes.c_float,
}

_SOURCE = Path(__file__).read_bytes() if Path(__file__).exists() else __version__.encode()
"""Says which options and passes are used; read when the code is, lest it be edited in between."""

_initialized = threading.Event()
_library_numbers = itertools.count()


def _initialize() -> None:
    if _initialized.is_set():
        return
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    llvm.initialize_native_asmparser()
    _initialized.set()


def target_machine(isa: Isa) -> Any:
    """A TargetMachine for position independent code in the small code model."""
    _initialize()
    target = llvm.Target.from_triple(isa.triple)
    return target.create_target_machine(
        cpu=isa.cpu, features=isa.feature_string, opt=2, reloc="pic", codemodel="small"
    )


def optimized(module: Any, machine: Any) -> Any:
    """The parsed, verified and optimized LLVM module of an llvmlite ``ir.Module``, or of its text.

    A short list of passes: kernels are written in the form they should have, and no pass that
    turns loops into library calls or reorders arithmetic may run.
    """
    text = str(module)
    parsed = llvm.parse_assembly(text, context=llvm.create_context())
    parsed.verify()
    options = llvm.create_pipeline_tuning_options(speed_level=1)
    passes = llvm.create_new_function_pass_manager()
    passes.add_sroa_pass()
    passes.add_simplify_cfg_pass()
    passes.add_instruction_combine_pass()
    passes.add_loop_simplify_pass()
    passes.add_loop_rotate_pass()
    passes.add_new_gvn_pass()
    passes.add_simplify_cfg_pass()
    builder = llvm.create_pass_builder(machine, options)
    for function in parsed.functions:
        if not function.is_declaration:
            run_passes(passes, function, builder)
    return parsed


def compile_object(module: Any, isa: Isa) -> bytes:
    """The ELF object of an llvmlite ``ir.Module``, or of its text. Same module, same bytes."""
    machine = target_machine(isa)
    return emit_object(machine, optimized(module, machine))


def compile_objects(
    module: Any, isa: Isa, cache: Cache | None = None, threads: int | None = None
) -> list[bytes]:
    """ELF objects that make up an llvmlite ``ir.Module`` or its text, each of one function.

    They are taken from the cache, or compiled in parallel, by default by as many threads as this
    process has cores. The bytes are the same in every case.
    """
    units = split(module)
    keys = [_key(unit, isa) for unit in units]
    found = [None if cache is None else cache.get(key) for key in keys]
    missing = [index for index, value in enumerate(found) if value is None]
    with ThreadPoolExecutor(min(threads or _cores(), max(len(missing), 1))) as pool:
        made = pool.map(partial(compile_object, isa=isa), [units[index] for index in missing])
        for index, value in zip(missing, made, strict=True):
            found[index] = value
            if cache is not None:
                cache.put(keys[index], value)
    return [value for value in found if value is not None]


def _key(unit: str, isa: Isa) -> str:
    """What the object of a unit depends on; that this file does is in it as well."""
    return key_of(["object", unit, isa.triple, isa.cpu, isa.feature_string, VERSION, _SOURCE])


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def assembly(module: Any, isa: Isa) -> str:
    """The assembly text that ``compile_object`` would encode."""
    machine = target_machine(isa)
    return machine.emit_assembly(optimized(module, machine))


class LoadedCode:
    """Object code in this process; its functions are valid while this is alive."""

    def __init__(self, jit: Any, library: Any) -> None:
        self._jit = jit
        self._library = library

    def address(self, name: str) -> int:
        """The address of an exported symbol; KeyError if it was not asked for in ``load``."""
        return self._library[name]

    def function(self, name: str, *parameters: str, returns: str | None = None) -> Any:
        """A ctypes function; parameters and result are keys of ``C_TYPES``.

        The function keeps the code alive.
        """
        result = C_TYPES[returns] if returns else None
        prototype = ctypes.CFUNCTYPE(result, *(C_TYPES[p] for p in parameters))
        function: Any = prototype(self.address(name))
        function.owner = self
        return function


def load(objects: bytes | Iterable[bytes], symbols: Iterable[str]) -> LoadedCode:
    """Links objects that were compiled for this machine and resolves the exported ``symbols``.

    Raises RuntimeError if a symbol is missing or an object refers to something undefined.
    """
    _initialize()
    images = [objects] if isinstance(objects, bytes) else list(objects)
    builder: Any = llvm.JITLibraryBuilder()
    for image in images:
        builder.add_object_img(image)
    for symbol in symbols:
        builder.export_symbol(symbol)
    jit: Any = llvm.create_lljit_compiler(use_jit_link=False)
    library = builder.link(jit, f"uqfc{next(_library_numbers)}")
    return LoadedCode(jit, library)
