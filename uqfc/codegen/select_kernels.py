"""``select-kernels``: the compiled function of every launch, and the scratch memory it needs.

Where several kernels can compute a launch, the fastest: measured on this machine if there is such
a measurement, or else by the cost model.

Law: exact. Only the properties ``kernel``, ``scratch_bytes``, ``split`` and ``chosen_by`` are set.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, StringAttr, UnitAttr
from xdsl.passes import ModulePass

from uqfc.codegen.isa import Isa, isa_for
from uqfc.codegen.lowering import Choice, alternatives
from uqfc.codegen.parts import is_worth_splitting, scratch_of_parts
from uqfc.codegen.work import work_of
from uqfc.dialects.qkernel import LaunchOp
from uqfc.dialects.tensors import integer
from uqfc.errors import UnsupportedError, UnsupportedNode
from uqfc.targets import load_target

Problem: TypeAlias = tuple[str, ...]
"""What alternatives are measured for: their sizes, and their names."""
Tuner: TypeAlias = Callable[[ModuleOp], Mapping[Problem, str]]
"""From a module of launches to the names of the fastest kernels for their problems."""


def problem_of(choices: Sequence[Choice]) -> Problem:
    """Launches whose alternatives are the same, and take as long."""
    return choices[0].problem, *(choice.name for choice in choices)


def select(launch: LaunchOp, choice: Choice, chosen_by: str | None, threads: int = 1) -> None:
    """Decide for a kernel."""
    launch.properties["kernel"] = StringAttr(choice.name)
    scratch = choice.scratch_bytes
    if threads > 1 and choice.splits and is_worth_splitting(work_of(launch)):
        launch.properties["split"] = UnitAttr()
        scratch = scratch_of_parts(scratch, threads)
    launch.properties["scratch_bytes"] = integer(scratch)
    if chosen_by is not None:
        launch.properties["chosen_by"] = StringAttr(chosen_by)


@dataclass(frozen=True)
class SelectKernelsPass(ModulePass):
    """``target``: a name or the path of a table. UnsupportedError lists what has no kernel.

    ``tune`` measures; without it the cost model chooses. ``threads``: most threads of a run.
    """

    name = "select-kernels"
    target: str = "host"
    tune: Tuner | None = None
    threads: int = 1

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        isa = isa_for(load_target(self.target))
        launches = [o for o in op.walk() if isinstance(o, LaunchOp)]
        choices = self._alternatives(launches, isa)
        fastest: Mapping[Problem, str] = {} if self.tune is None else self.tune(op)
        for launch, available in zip(launches, choices, strict=True):
            measured = fastest.get(problem_of(available))
            if len(available) == 1:
                choice, chosen_by = available[0], None
            elif measured is None:
                choice, chosen_by = min(available, key=lambda c: c.estimate), "model"
            else:
                choice, chosen_by = next(c for c in available if c.name == measured), "measured"
            select(launch, choice, chosen_by, self.threads)

    def _alternatives(self, launches: Sequence[LaunchOp], isa: Isa) -> list[Sequence[Choice]]:
        """The kernels for each launch."""
        found: list[Sequence[Choice]] = []
        missing: list[UnsupportedNode] = []
        for launch in launches:
            try:
                found.append(alternatives(launch, isa))
            except UnsupportedError as error:
                missing += error.nodes
        if missing:
            raise UnsupportedError(missing, f"target {self.target}")
        return found
