"""Cycles of kernels that were measured on this machine, kept in the cache on disk.

An entry for each problem, under a key of all that the figures depend on: the CPU, the instruction
set with its features, the source of the code generator, and the problem.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

from uqfc.cache import Cache, key_of
from uqfc.codegen.fingerprint import fingerprint
from uqfc.codegen.isa import Isa
from uqfc.codegen.select_kernels import Problem

CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Measurements:
    """Cycles by problem. Without a cache nothing is kept."""

    cache: Cache | None = None

    def find(self, isa: Isa, problem: Problem) -> dict[str, float] | None:
        """Cycles of each alternative, by name, if they were measured."""
        value = None if self.cache is None else self.cache.get(_key(isa, problem))
        return None if value is None else _cycles(value, problem)

    def keep(self, isa: Isa, problem: Problem, cycles: Mapping[str, float]) -> None:
        """Remember them."""
        if self.cache is not None:
            self.cache.put(_key(isa, problem), json.dumps(dict(cycles)).encode())


def _key(isa: Isa, problem: Problem) -> str:
    return key_of(["measurement", cpu(), fingerprint(), repr(isa), *problem])


def _cycles(value: bytes, problem: Problem) -> dict[str, float] | None:
    """What was kept, if it is of this problem's alternatives."""
    cycles = cast("dict[str, Any]", json.loads(value))
    names = problem[1:]
    return {name: float(cycles[name]) for name in names} if set(cycles) == set(names) else None


@cache
def cpu() -> str:
    """The processor's name."""
    with suppress(OSError):
        for line in CPUINFO.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
