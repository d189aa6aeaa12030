"""Whether LLVM knows the triple, CPU and features that a user's table names.

LLVM is asked in another process: it only prints a warning about a feature that it does not know,
and it ends the process that wants code for a CPU that it does not know. The tables that ship with
uqfc are not asked about.
"""

from __future__ import annotations

import subprocess
import sys
from functools import cache

from uqfc.errors import TargetError
from uqfc.targets import available_targets, load_target

_TIMEOUT_SECONDS = 120
_UNKNOWN = "is not a recognized"
_PROBE = """
import sys
from llvmlite import binding as llvm
triple, cpu, features = sys.argv[1:]
llvm.initialize_all_targets()
llvm.initialize_all_asmprinters()
target = llvm.Target.from_triple(triple)
module = llvm.parse_assembly("define void @f() { ret void }")
module.triple = triple
target.create_target_machine(cpu=cpu, features=features).emit_object(module)
"""


@cache
def check_known(triple: str, cpu: str, features: tuple[str, ...]) -> None:
    """TargetError with LLVM's own words unless it generates code for this machine."""
    if (triple, cpu, features) in _shipped():
        return
    arguments = (triple, cpu, ",".join(features))
    probe = subprocess.run(
        [sys.executable, "-c", _PROBE, *arguments],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=_TIMEOUT_SECONDS,
        check=False,
    )
    problems = [line for line in probe.stderr.splitlines() if _UNKNOWN in line]
    if probe.returncode or problems:
        said = problems or probe.stderr.splitlines()[-1:] or [f"status {probe.returncode}"]
        raise TargetError(
            f"target fields 'triple', 'cpu' and 'features' ({', '.join(filter(None, arguments))}): "
            f"LLVM: {'; '.join(dict.fromkeys(said))}"
        )


@cache
def _shipped() -> frozenset[tuple[str, str, tuple[str, ...]]]:
    tables = [load_target(name) for name in available_targets()]
    return frozenset((t.triple, t.cpu, t.features) for t in tables)
