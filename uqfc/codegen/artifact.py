"""Writes a compiled model: a shared object with a trailer, or an object file with a header.

Nothing is written before everything succeeded, and then by renaming: a failure leaves no file
and does not touch an older one. Same arguments (and same linker) give the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from uqfc.codegen.entry_points import (
    MEMORY_FUNCTIONS_IR,
    SHARED_OBJECT_SYMBOLS,
    Symbols,
    embed_weights,
    entry_points_ir,
    prefixed_symbols,
)
from uqfc.codegen.header import check_prefix, header_text
from uqfc.codegen.isa import isa_for
from uqfc.codegen.jit import target_machine
from uqfc.codegen.linker import link_shared_object
from uqfc.codegen.llvm import binding as llvm
from uqfc.errors import UqfcError
from uqfc.targets import Target
from uqfc_runtime.artifact import make_trailer
from uqfc_runtime.info import parse_info


def encode_info(info: Mapping[str, Any]) -> bytes:
    """The model info as it is stored: compact ASCII JSON, keys in the order given.

    Raises uqfc_runtime.ArtifactError where the runtime would refuse it.
    """
    text = json.dumps(info, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    parse_info(text)
    return text.encode("ascii")


def write_shared_object(
    path: str | Path,
    objects: Sequence[bytes],
    weights: bytes | memoryview,
    info: Mapping[str, Any],
    target: Target,
) -> None:
    """Write ``model.so`` from the kernels' ELF objects, one of which has ``uqf_internal_run``.

    ``weights`` is the blob that the kernels are given, ``info`` the document of ``uqf.h``.
    Raises ToolchainError without a working linker, UqfcError where ``path`` cannot be written.
    """
    info_json = encode_info(info)
    ir = _entry_points(SHARED_OBJECT_SYMBOLS, info_json, weights, target) + MEMORY_FUNCTIONS_IR
    entry = embed_weights(_emit([ir], target), weights)
    body = link_shared_object([entry, *objects], SHARED_OBJECT_SYMBOLS, target.architecture)
    write_atomically({Path(path): [body, make_trailer(body, info_json)]})


def write_object_file(
    path: str | Path,
    modules: Iterable[str],
    weights: bytes | memoryview,
    info: Mapping[str, Any],
    target: Target,
    prefix: str,
) -> Path:
    """Write ``model.o`` and, beside it, ``model.h``; returns the header's path.

    ``modules`` is the (optimized) LLVM IR of the kernels, as text. Only the functions of
    ``prefixed_symbols(prefix)`` are global in the object. No linker is needed. Raises UqfcError
    where the prefix is no C identifier, ``path`` does not end in ``.o``, or a file cannot be
    written.
    """
    if Path(path).suffix != ".o":
        raise UqfcError(f"{path}: an object file's name must end in '.o'")
    symbols = prefixed_symbols(check_prefix(prefix))
    info_json = encode_info(info)
    ir = _entry_points(symbols, info_json, weights, target)
    code = embed_weights(_emit([ir, *modules], target, keep=symbols), weights)
    header = Path(path).with_suffix(".h")
    text = header_text(parse_info(info_json), prefix)
    write_atomically({Path(path): [code], header: [text.encode("ascii")]})
    return header


def _entry_points(
    symbols: Symbols, info_json: bytes, weights: bytes | memoryview, target: Target
) -> str:
    threads = parse_info(info_json).threads
    return entry_points_ir(symbols, info_json, len(weights), threads, target.triple)


def _emit(modules: Iterable[str], target: Target, keep: Symbols | None = None) -> bytes:
    """One ELF object of modules in textual IR; with ``keep``, all else becomes local."""
    machine = target_machine(isa_for(target))
    context = llvm.create_context()
    merged = llvm.parse_assembly("", context=context)
    merged.triple, merged.data_layout = target.triple, str(machine.target_data)
    for text in modules:
        part = llvm.parse_assembly(text, context=context)
        part.triple, part.data_layout = merged.triple, merged.data_layout
        part.verify()
        merged.link_in(part)
    if keep is not None:
        _make_local(merged, keep)
    return machine.emit_object(merged)


def _make_local(module: Any, keep: Symbols) -> None:
    for value in (*module.functions, *module.global_variables):
        if not value.is_declaration and value.name not in keep:
            value.visibility = "default"
            value.linkage = "internal"


def write_atomically(files: Mapping[Path, Iterable[bytes | bytearray]]) -> None:
    """Write all files beside their places, then move them there. UqfcError if that fails."""
    written: dict[Path, Path] = {}
    try:
        for path, chunks in files.items():
            temporary = path.with_name(f".{path.name}.{uuid4().hex}")
            written[temporary] = path
            with temporary.open("xb") as file:
                file.writelines(chunks)
        for temporary, path in written.items():
            temporary.replace(path)
    except OSError as error:
        raise UqfcError(f"{', '.join(map(str, files))}: cannot be written: {error}") from error
    finally:
        for temporary in written:
            with suppress(OSError):  # what is in the way of the file is in the way of removing it
                temporary.unlink()
