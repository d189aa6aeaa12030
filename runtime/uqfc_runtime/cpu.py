"""What this machine is: its architecture and the feature flags of its CPU.

Features are named as Linux names them in ``/proc/cpuinfo`` (``avx2``, ``avx512_vnni``). Flags are
read, never inferred from the CPU's name: names are unreliable under virtualisation.
"""

from __future__ import annotations

import ctypes
import platform
import subprocess
from functools import cache
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
_SYSCTL_KEYS = ("machdep.cpu.features", "machdep.cpu.leaf7_features")
_MACOS_NAMES = {"avx1_0": "avx", "avx512vnni": "avx512_vnni"}
AMX = "amx_tile"
"""The feature whose use the operating system must permit."""
_ARCH_PRCTL = 158
_ARCH_REQ_XCOMP_PERM, _XFEATURE_XTILEDATA = 0x1023, 18
_ARCHITECTURES = {"amd64": "x86_64", "arm64": "aarch64"}


def architecture() -> str:
    """This machine's architecture as the first part of an LLVM triple, e.g. ``x86_64``."""
    machine = platform.machine().lower()
    return _ARCHITECTURES.get(machine, machine)


@cache
def cpu_features() -> frozenset[str]:
    """Feature flags of this CPU; empty where the system does not tell them."""
    if _CPUINFO.exists():
        return parse_cpuinfo(_CPUINFO.read_text(encoding="utf-8", errors="replace"))
    if platform.system() == "Darwin":
        return parse_sysctl(_sysctl())
    return frozenset()


@cache
def amx_permitted() -> bool:
    """Asks Linux, once, to let this process use AMX; False on a machine that has no such thing.

    The permission holds for all threads of the process and for what it forks, until it ends.
    """
    if platform.system() != "Linux" or architecture() != "x86_64":
        return False
    syscall = ctypes.CDLL(None).syscall
    syscall.restype = ctypes.c_long
    arguments = (_ARCH_PRCTL, _ARCH_REQ_XCOMP_PERM, _XFEATURE_XTILEDATA)
    return syscall(*(ctypes.c_long(a) for a in arguments)) == 0


def parse_cpuinfo(text: str) -> frozenset[str]:
    """Flags of the first CPU in the text of ``/proc/cpuinfo`` (``flags`` or ``Features``)."""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip().lower() in ("flags", "features", "isa"):
            return frozenset(value.lower().split())
    return frozenset()


def parse_sysctl(text: str) -> frozenset[str]:
    """Flags in the values of macOS' ``machdep.cpu`` keys, renamed to Linux' names."""
    names = text.lower().replace(".", "_").split()
    return frozenset(_MACOS_NAMES.get(name, name) for name in names)


def _sysctl() -> str:
    command = ["/usr/sbin/sysctl", "-n", *_SYSCTL_KEYS]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout
