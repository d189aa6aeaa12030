"""Measures the kernels that can compute each layer, on this machine, and takes the fastest.

Each distinct *problem* (sizes, and names of the alternatives) of a network is measured once: its
launch is compiled alone with every alternative, and these run in turn on warm memory, on one core.
What was measured is kept on disk for the next network that has the problem: see ``Measurements``.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import ArrayAttr, ModuleOp, StringAttr
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Block, Region, SSAValue

from uqfc.cache import Cache
from uqfc.codegen.builder import new_module
from uqfc.codegen.isa import Isa, isa_for
from uqfc.codegen.jit import compile_objects, load
from uqfc.codegen.lowering import Choice, alternatives
from uqfc.codegen.module import Compiled
from uqfc.codegen.pack_weights import PackWeightsPass
from uqfc.codegen.profiling import emit_measured
from uqfc.codegen.select_kernels import Problem, problem_of, select
from uqfc.dialects.nn import ConstantOp
from uqfc.dialects.qkernel import LaunchOp, memref_bytes
from uqfc.dialects.tensors import type_of
from uqfc.errors import TargetError
from uqfc.measurements import Measurements
from uqfc.passes.plan_memory import PlanMemoryPass
from uqfc.pipeline import run_passes
from uqfc.targets import Target, missing_cpu_features
from uqfc_runtime.binding import aligned_bytes

MARGIN = 0.02
"""Only what is faster than the cost model's choice by more than this replaces it: less is noise."""
ROUNDS = range(5, 41)
"""Calls of each alternative that count, for long and for short ones."""
ROUND_CYCLES = 2e8
"""About the cycles that all rounds of a problem may take."""
WARMUP = 2
SLACK = 64


@dataclass(frozen=True)
class Autotuner:
    """Gives the fastest kernel of each problem of a network after ``form-kernels``.

    ``target`` is the name or path of ``table``. Raises TargetError if this machine cannot run it.
    """

    table: Target
    target: str
    cache: Cache | None = None
    """For measurements, and the code that is measured."""

    def __call__(self, kernels: ModuleOp) -> dict[Problem, str]:
        missing = missing_cpu_features(self.table)
        if missing:
            raise TargetError(
                f"target {self.table.name}: its kernels cannot be measured, because this machine "
                f"lacks {', '.join(missing)}"
            )
        isa, measurements = isa_for(self.table), Measurements(self.cache)
        problems = distinct_problems(kernels, isa)
        cycles = {
            problem: found
            for problem in problems
            if (found := measurements.find(isa, problem)) is not None
        }
        new = {problem: problems[problem] for problem in problems if problem not in cycles}
        for problem, measured in measure(new, isa, self.target, self.cache).items():
            measurements.keep(isa, problem, measured)
            cycles[problem] = measured
        return {
            problem: fastest(alternatives(launch, isa), cycles[problem])
            for problem, launch in problems.items()
        }


def distinct_problems(kernels: ModuleOp, isa: Isa) -> dict[Problem, LaunchOp]:
    """A launch of each problem that several kernels can solve."""
    found: dict[Problem, LaunchOp] = {}
    for launch in [op for op in kernels.walk() if isinstance(op, LaunchOp)]:
        choices = alternatives(launch, isa)
        if len(choices) > 1:
            found.setdefault(problem_of(choices), launch)
    return found


def fastest(choices: Sequence[Choice], cycles: Mapping[str, float]) -> str:
    """The kernel to take, by name: the cost model's unless another is faster by ``MARGIN``."""
    modelled = min(choices, key=lambda choice: choice.estimate).name
    best = min(cycles, key=cycles.__getitem__)
    return best if cycles[best] < (1 - MARGIN) * cycles[modelled] else modelled


def measure(
    problems: Mapping[Problem, LaunchOp], isa: Isa, target: str, cache: Cache | None = None
) -> dict[Problem, dict[str, float]]:
    """Least cycles of every alternative, by its name, of every problem."""
    if not problems:
        return {}
    llvm = new_module(isa, "autotune")
    compiled: dict[Problem, dict[str, Compiled]] = {}
    for number, (problem, launch) in enumerate(problems.items()):
        compiled[problem] = {}
        for choice in alternatives(launch, isa):
            module = isolated(launch, choice)
            run_passes(module, [PackWeightsPass(target), PlanMemoryPass()])
            name = f"measure_{number}_{choice.name}"
            inputs = len(dynamic_inputs(launch))
            compiled[problem][name] = emit_measured(module, inputs, isa, llvm, name)
    names = [name for each in compiled.values() for name in each]
    code = load(compile_objects(llvm, isa, cache), names)
    measured: dict[Problem, dict[str, float]] = {}
    with one_core():
        for number, (problem, launch) in enumerate(problems.items()):
            calls: dict[str, Call] = {}
            for name, each in compiled[problem].items():
                function = code.function(name, *["ptr"] * 4, "i64", "i64", "ptr")
                calls[name.removeprefix(f"measure_{number}_")] = Call(launch, each, function)
            measured[problem] = take_turns(calls)
    return measured


def dynamic_inputs(launch: LaunchOp) -> list[SSAValue]:
    """The operands that are not constants."""
    return [v for v in launch.inputs if not isinstance(v.owner, ConstantOp)]


def isolated(launch: LaunchOp, choice: Choice) -> ModuleOp:
    """A module of this launch alone, computed by ``choice``; its inputs: ``dynamic_inputs``."""
    inputs = dynamic_inputs(launch)
    block = Block(arg_types=[type_of(v) for v in inputs])
    mapping: dict[SSAValue, SSAValue] = dict(zip(inputs, block.args, strict=True))
    for value in launch.inputs:
        if isinstance(value.owner, ConstantOp):
            constant = value.owner.clone()
            block.add_op(constant)
            mapping[value] = constant.result
    copy = launch.clone(value_mapper=mapping)
    select(copy, choice, None)
    block.add_ops([copy, ReturnOp(copy.outputs[0])])
    signature = ([a.type for a in block.args], [copy.outputs[0].type])
    function = FuncOp("main", signature, Region(block))
    names = ArrayAttr([StringAttr(f"x{i}") for i in range(len(inputs))])
    function.attributes |= {"input_names": names, "output_names": ArrayAttr([StringAttr("y")])}
    return ModuleOp([function])


class Call:
    """One alternative with memory to run on; what is in it does not matter."""

    def __init__(self, launch: LaunchOp, compiled: Compiled, function: Any) -> None:
        random = np.random.default_rng(0)
        inputs = [buffer(memref_bytes(v.type)) for v in dynamic_inputs(launch)]
        for array in inputs:
            array[:] = random.integers(0, 256, len(array), np.uint8)
        weights = buffer(len(compiled.weights))
        weights[: len(compiled.weights)] = np.frombuffer(compiled.weights, np.uint8)
        self.counters = np.zeros(2, np.int64)
        outputs = [buffer(memref_bytes(launch.outputs[0].type)), self.counters]
        arena = buffer(compiled.arena_bytes)
        self._memory = [*inputs, *outputs, arena, weights]
        self._tables = [addresses(inputs), addresses(outputs)]
        pointers = [ctypes.addressof(table) for table in self._tables]
        self._arguments = [*pointers, arena.ctypes.data, weights.ctypes.data, 0, 1, None]
        self._function = function

    def cycles(self) -> int:
        """Of one run."""
        self._function(*self._arguments)
        return int(self.counters[1] - self.counters[0])


def buffer(size: int) -> NDArray[np.uint8]:
    """Zeros that start on a line, with readable bytes after them."""
    array = aligned_bytes(size + SLACK, 64)
    array[:] = 0
    return array


def addresses(arrays: Sequence[NDArray[Any]]) -> Any:
    return (ctypes.c_void_p * len(arrays))(*(array.ctypes.data for array in arrays))


def take_turns(calls: Mapping[str, Call]) -> dict[str, float]:
    """The least cycles of each."""
    once = {name: [call.cycles() for _ in range(WARMUP)][-1] for name, call in calls.items()}
    affordable = int(ROUND_CYCLES / max(1, sum(once.values())))
    rounds = min(max(affordable, ROUNDS.start), ROUNDS.stop - 1)
    least = {name: float("inf") for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            least[name] = min(least[name], float(call.cycles()))
    return least


@contextmanager
def one_core() -> Generator[None]:
    """Keeps this thread on the core that it is on, where the system lets us."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    with suppress(OSError):
        os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        with suppress(OSError):
            os.sched_setaffinity(0, before)
