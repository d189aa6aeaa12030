"""``select-kernels``: the compiled function of every launch, and the scratch memory it needs.

Law: exact. Only the properties ``kernel`` and ``scratch_bytes`` are set.
"""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, StringAttr
from xdsl.passes import ModulePass

from uqfc.codegen.isa import isa_for
from uqfc.codegen.lowering import choose
from uqfc.dialects.qkernel import LaunchOp
from uqfc.dialects.tensors import integer
from uqfc.errors import UnsupportedError, UnsupportedNode
from uqfc.targets import load_target


@dataclass(frozen=True)
class SelectKernelsPass(ModulePass):
    """``target``: a name or the path of a table. UnsupportedError lists what has no kernel."""

    name = "select-kernels"
    target: str = "host"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        isa = isa_for(load_target(self.target))
        missing: list[UnsupportedNode] = []
        for launch in [o for o in op.walk() if isinstance(o, LaunchOp)]:
            try:
                choice = choose(launch, isa)
            except UnsupportedError as error:
                missing += error.nodes
                continue
            launch.properties["kernel"] = StringAttr(choice.name)
            launch.properties["scratch_bytes"] = integer(choice.scratch_bytes)
        if missing:
            raise UnsupportedError(missing, f"target {self.target}")
