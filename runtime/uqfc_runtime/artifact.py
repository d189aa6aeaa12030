"""The file format: an ELF shared object followed by a trailer of 56 bytes.

====== ====== ==================================================================
offset size   field of the trailer (integers are little-endian)
====== ====== ==================================================================
0      8      magic ``UQFCBIN1``
8      8      offset of the info JSON in the file (it lies in the ELF's .rodata)
16     8      size of the info JSON, without the NUL that follows it
24     32     SHA-256 of all bytes before the trailer
====== ====== ==================================================================

Everything is checked from the bytes alone: nothing of the file is executed by this module. The
hash guards against damage, not against an attacker: a model is native code, load what you trust.
"""

from __future__ import annotations

import hashlib
import platform
import struct
from dataclasses import dataclass
from pathlib import Path

from uqfc_runtime.cpu import AMX, amx_permitted, architecture, cpu_features
from uqfc_runtime.errors import ArtifactError, UnsupportedCpuError
from uqfc_runtime.info import ModelInfo, parse_info

MAGIC = b"UQFCBIN1"
TRAILER = struct.Struct("<8sQQ32s")
ELF_MACHINES = {"x86_64": 62, "aarch64": 183, "riscv64": 243}

_ELF_HEADER = struct.Struct("<4sBB10xHH")
_ELF_CLASS_64, _ELF_LITTLE_ENDIAN, _ELF_SHARED_OBJECT = 2, 1, 3
_MAX_INFO_BYTES = 1 << 28


@dataclass(frozen=True)
class Artifact:
    """A checked artifact: ``body`` is what was hashed, ``info_json`` the document in it."""

    body: bytes
    info_json: bytes
    info: ModelInfo


def make_trailer(body: bytes, info_json: bytes) -> bytes:
    """The trailer of an ELF file ``body`` that contains ``info_json`` followed by a NUL.

    Raises ValueError where it does not.
    """
    offset = body.index(info_json + b"\0")
    return TRAILER.pack(MAGIC, offset, len(info_json), hashlib.sha256(body).digest())


def read_artifact(path: str | Path, *, runnable: bool = True) -> Artifact:
    """Read and check a file. Raises ArtifactError for anything but a sound artifact.

    ``runnable``: it must also be one that this machine can run.
    """
    body, trailer = _read(Path(path))
    try:
        artifact = _check(body, trailer)
        if runnable:
            _check_machine(body)
            check_cpu(artifact.info)
    except ArtifactError as error:
        raise type(error)(f"{path}: {error}") from error
    return artifact


def check_cpu(info: ModelInfo) -> None:
    """Raise UnsupportedCpuError where this CPU lacks a feature that the model needs.

    Where the model needs AMX this asks the operating system for it; it may refuse.
    """
    missing = [f for f in info.target.cpu_features if f not in cpu_features()]
    if missing:
        raise UnsupportedCpuError(
            f"compiled for {info.target.name}, which needs CPU features that this machine lacks: "
            f"{', '.join(missing)}"
        )
    if AMX in info.target.cpu_features and not amx_permitted():
        raise UnsupportedCpuError(
            f"compiled for {info.target.name}, which needs AMX: this CPU has it, but the operating "
            "system does not let this process use it (Linux 5.16 and newer do, unless a sandbox "
            "forbids arch_prctl)"
        )


def _read(path: Path) -> tuple[bytes, bytes]:
    """The bytes before the trailer, and the trailer; the magic is checked before all is read."""
    try:
        if not path.is_file():
            raise ArtifactError(f"{path}: no such file")
        with path.open("rb") as file:
            size = file.seek(0, 2)
            if size < _ELF_HEADER.size + TRAILER.size:
                raise ArtifactError(f"{path}: not a uqfc artifact: only {size} bytes")
            file.seek(size - TRAILER.size)
            trailer = file.read(TRAILER.size)
            if len(trailer) != TRAILER.size or not trailer.startswith(MAGIC):
                raise ArtifactError(f"{path}: not a uqfc artifact, or truncated: no trailer")
            file.seek(0)
            return file.read(size - TRAILER.size), trailer
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: cannot be read: {error}") from error


def _check(body: bytes, trailer: bytes) -> Artifact:
    _, offset, size, digest = TRAILER.unpack(trailer)
    if hashlib.sha256(body).digest() != digest:
        raise ArtifactError("content does not match its hash: the file is damaged or was altered")
    end = offset + size
    if size > _MAX_INFO_BYTES or end >= len(body) or body[end] != 0:
        raise ArtifactError("trailer does not point at the model info")
    _check_elf(body)
    info_json = body[offset:end]
    return Artifact(body, info_json, parse_info(info_json))


def _check_elf(body: bytes) -> None:
    magic, elf_class, data, kind, _ = _ELF_HEADER.unpack_from(body)
    if magic != b"\x7fELF" or kind != _ELF_SHARED_OBJECT:
        raise ArtifactError("not an ELF shared object")
    if elf_class != _ELF_CLASS_64 or data != _ELF_LITTLE_ENDIAN:
        raise ArtifactError("not a 64-bit little-endian ELF file")


def _check_machine(body: bytes) -> None:
    *_, machine = _ELF_HEADER.unpack_from(body)
    if platform.system() in ("Darwin", "Windows"):
        raise ArtifactError(f"an ELF shared object cannot be loaded on {platform.system()}")
    here = architecture()
    if machine != ELF_MACHINES.get(here):
        names = {number: name for name, number in ELF_MACHINES.items()}
        raise ArtifactError(
            f"compiled for machine {names.get(machine, machine)}; this machine is {here}"
        )
