"""Where the time of an inference goes, launch by launch, and how near each is to the limits."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import ModuleOp

from uqfc.cache import Cache
from uqfc.codegen.artifact import encode_info
from uqfc.codegen.isa import Isa, isa_for
from uqfc.codegen.jit import compile_objects, load
from uqfc.codegen.limits import Limits
from uqfc.codegen.module import RUN
from uqfc.codegen.profiling import emit_profiled
from uqfc.codegen.work import Work, work_of
from uqfc.dialects.qkernel import LaunchOp
from uqfc.errors import TargetError
from uqfc.targets import Target
from uqfc.timing import Latency
from uqfc_runtime import Model, verification_inputs
from uqfc_runtime.binding import Addresses

Counters: TypeAlias = NDArray[np.int64]

SEED = 0


@dataclass(frozen=True)
class LaunchProfile:
    """One kernel's share; times are of one call, in microseconds."""

    layer: str
    op: str
    kernel: str
    minimum_us: float
    median_us: float
    macs: int
    """Multiply-accumulates that the layer asks for."""
    bytes: int
    """Operands and result, each counted once."""
    limit_us: float
    """No kernel on this machine is faster: the larger of ``macs`` at the highest rate of products,
    and the constants and activations at the bandwidths of buffers as large as all of them are."""
    bandwidth_bound: bool
    """The bytes set the limit."""

    @property
    def gmacs_per_second(self) -> float:
        return self.macs / self.median_us / 1e3

    @property
    def gbytes_per_second(self) -> float:
        return self.bytes / self.median_us / 1e3

    @property
    def of_limit(self) -> float:
        """``limit_us / median_us``."""
        return self.limit_us / self.median_us


@dataclass(frozen=True)
class Profile:
    """Of ``runs`` calls on one thread. ``call``: the ordinary build, called from Python in turn."""

    model: str
    target: str
    runs: int
    launches: tuple[LaunchProfile, ...]
    call: Latency
    kernels_median_us: float
    """From before the first launch to after the last, in the profiling build."""

    @property
    def left_over_us(self) -> float:
        """Of the call's median: the call from Python, checks, and allocation of the outputs."""
        return self.call.median * 1e3 - self.kernels_median_us

    def as_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        launches = [
            asdict(p)
            | {
                "gmacs_per_second": p.gmacs_per_second,
                "gbytes_per_second": p.gbytes_per_second,
                "of_limit": p.of_limit,
            }
            for p in self.launches
        ]
        return asdict(self) | {"launches": launches, "left_over_us": self.left_over_us}


def profile(
    kernels: ModuleOp,
    target: Target,
    info: Mapping[str, Any],
    model: Model,
    *,
    runs: int = 200,
    warmup: int = 20,
    cache: Cache | None = None,
) -> Profile:
    """Run planned ``kernels`` with a cycle counter read between them, on one thread.

    ``info`` describes the network and ``model`` is its ordinary build. Inputs are generated: no
    kernel's time depends on their values. Raises TargetError for code that is not for x86-64.
    """
    times, durations = launch_times(
        kernels, target, info, model, runs=runs, warmup=warmup, cache=cache, in_turn=True
    )
    limits = Limits(isa_for(target))
    works = [work_of(op) for op in kernels.walk() if isinstance(op, LaunchOp)]
    sizes = model.info.weights_bytes, model.info.arena_bytes
    launches: list[LaunchProfile] = []
    for layer, work, taken in zip(model.layers, works, times.T, strict=True):
        compute, memory = _limit_us(work, limits, *sizes)
        launches.append(
            LaunchProfile(
                layer.name,
                layer.op,
                layer.kernel or "",
                float(taken.min()),
                float(np.median(taken)),
                work.macs,
                work.bytes,
                max(compute, memory),
                memory > compute,
            )
        )
    return Profile(
        model.info.name,
        target.name,
        runs,
        tuple(launches),
        Latency.of(durations),
        float(np.median(times.sum(axis=1))),
    )


def launch_times(
    kernels: ModuleOp,
    target: Target,
    info: Mapping[str, Any],
    model: Model,
    *,
    runs: int,
    warmup: int,
    cache: Cache | None = None,
    in_turn: bool,
) -> tuple[NDArray[np.float64], list[int]]:
    """Microseconds [runs, launches], and nanoseconds of ordinary calls.

    ``in_turn``: both see the same machine, but each finds the caches as the other left them.
    Otherwise the ordinary calls come after all others. The other arguments are those of
    ``profile``. TargetError for code that is not for x86-64.
    """
    if target.architecture != "x86_64":
        raise TargetError(f"target {target.name}: only x86_64 code can be profiled")
    counted = _profiling_build(kernels, info, isa_for(target), cache)
    counters, durations, cycles_per_us = _measure(counted, model, runs, warmup, in_turn)
    return np.diff(counters) / cycles_per_us, durations


def _limit_us(
    work: Work, limits: Limits, weights_bytes: int, arena_bytes: int
) -> tuple[float, float]:
    """Least microseconds for the products, and for the bytes.

    Constants come from wherever a buffer of all constants and the arena stays between two calls;
    activations from where the arena does.
    """
    compute = work.macs / limits.macs_per_second(work.kind) if work.kind else 0.0
    constants = work.constant_bytes / limits.read_bandwidth(weights_bytes + arena_bytes)
    activations = work.activation_bytes / limits.read_bandwidth(arena_bytes)
    return compute * 1e6, (constants + activations) * 1e6


def _profiling_build(
    kernels: ModuleOp, info: Mapping[str, Any], isa: Isa, cache: Cache | None
) -> Model:
    """The model with the counters as one more, last output."""
    compiled = emit_profiled(kernels, len(info["inputs"]), isa)
    outputs = list(info["outputs"])
    shape = [1 + len(info["layers"])]
    counters = {"name": _counters_name(outputs), "dtype": "int64", "shape": shape}
    changed = {**info, "outputs": [*outputs, counters], "verification": None}
    code = load(compile_objects(compiled.module, isa, cache), [RUN])
    addresses = Addresses(code.address(RUN))
    return Model.from_functions(addresses, encode_info(changed), compiled.weights, code)


def _counters_name(outputs: Sequence[Mapping[str, Any]]) -> str:
    """A name that no output has: a longer one."""
    return "cycles" + "_" * max((len(o["name"]) for o in outputs), default=0)


def _measure(
    counted: Model, ordinary: Model, runs: int, warmup: int, in_turn: bool
) -> tuple[Counters, list[int], float]:
    """Counters [runs, launches + 1], nanoseconds of ordinary calls, cycles a microsecond.

    Both clocks are compared from the start of the last call before those that count to the start
    of the last that does: what lies between calling and the first counter cancels.
    """
    inputs = verification_inputs(ordinary.info, SEED)
    out = {t.name: np.empty(t.shape, t.dtype) for t in counted.info.outputs}
    plain = {t.name: out[t.name] for t in ordinary.info.outputs}
    counters = out[counted.info.outputs[-1].name]
    taken: list[Counters] = []
    starts: list[int] = []
    durations: list[int] = []
    for i in range(-max(2, warmup), runs):
        start = time.perf_counter_ns()
        counted.run(inputs, out)
        if i >= -1:
            taken.append(counters.copy())
            starts.append(start)
        if in_turn:
            durations.append(_duration(ordinary, inputs, plain))
    if not in_turn:
        durations = [_duration(ordinary, inputs, plain) for _ in range(-max(2, warmup), runs)]
    cycles = int(taken[-1][0] - taken[0][0])
    cycles_per_us = cycles / ((starts[-1] - starts[0]) / 1e3)
    return np.stack(taken[1:]), durations[-runs:], cycles_per_us


def _duration(model: Model, inputs: Mapping[str, Any], out: Mapping[str, NDArray[Any]]) -> int:
    """Nanoseconds of one call."""
    start = time.perf_counter_ns()
    model.run(inputs, out)
    return time.perf_counter_ns() - start
