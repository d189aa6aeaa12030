"""What this machine can do at most, measured: multiply-accumulates and bytes read per second.

The loops are what no kernel can beat: dot products whose operands are in registers or the first
level cache, in as many independent sums as the registers hold; and loads that only keep an OR of
what they read. Both use the instructions that kernels of the same ``Isa`` may use.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np

from uqfc.codegen.builder import Builder, new_module
from uqfc.codegen.elements import llvm_type
from uqfc.codegen.isa import Isa, amx
from uqfc.codegen.isa.dot import Operand, dot_for
from uqfc.codegen.jit import compile_object, load
from uqfc.codegen.vector import LANES, Value
from uqfc.codegen.work import MacKind

Prepare: TypeAlias = Callable[[Value], Operand]
Add: TypeAlias = Callable[[Value, Operand, Operand], Value]

KINDS: tuple[MacKind, ...] = ("s8", "s4", "s16", "f32")
REPEATS = 5
"""Of each measurement, of which the fastest counts."""
_TILE_KINDS: tuple[MacKind, ...] = ("s8", "s4")
"""What matrix tiles multiply."""
SECONDS = 0.004
"""About how long each of them takes."""
_OPERAND_STEPS = 16
"""Weights that the loops go through: in the first level cache."""
_READ_LANES = 8 * LANES
_FLOAT_CHAINS = 10
_CHAINS = {"vnni512": 12, "avx2": 5, "portable": 2}
"""Sums of 16 lanes: more than latency times throughput, and no more than registers hold."""


class Limits:
    """Of one machine; each figure is measured when it is first asked for, and kept."""

    def __init__(self, isa: Isa) -> None:
        self.isa = isa
        self._macs: dict[MacKind, float] = {}
        self._bandwidth: dict[int, float] = {}

    def macs_per_second(self, kind: MacKind) -> float:
        """Most multiply-accumulates a second of one core."""
        if kind not in self._macs:
            operands = np.zeros(64 * 2 * (_OPERAND_STEPS + max(_CHAINS.values())), np.uint8)
            sums = np.zeros(64, np.uint8)
            addresses = operands.ctypes.data, sums.ctypes.data
            function = self._functions[f"macs_{kind}"]
            rate = _rate(lambda steps: function(*addresses, steps))
            self._macs[kind] = rate * macs_of_step(self.isa, kind)
        return self._macs[kind]

    def read_bandwidth(self, size: int) -> float:
        """Bytes a second that one core reads from a buffer of about ``size`` bytes, repeatedly.

        Sizes are rounded up to a power of two of at least 4 KiB, and to 1 GiB at most.
        """
        rounded = 1 << min(30, max(12, (size - 1).bit_length()))
        if rounded not in self._bandwidth:
            buffer = np.ones(rounded + 64, np.uint8)  # zeros would be one page, mapped many times
            sums = np.zeros(4 * _READ_LANES, np.uint8)
            address = buffer.ctypes.data + -buffer.ctypes.data % 64
            function = self._functions["read"]
            rate = _rate(lambda n: function(address, sums.ctypes.data, rounded, n))
            self._bandwidth[rounded] = rate * rounded
        return self._bandwidth[rounded]

    @cached_property
    def _functions(self) -> dict[str, Any]:
        module = new_module(self.isa, "limits")
        for kind in KINDS:
            _emit_macs(module, self.isa, kind)
        _emit_read(module, self.isa)
        names = [f"macs_{kind}" for kind in KINDS]
        code = load(compile_object(module, self.isa), [*names, "read"])
        functions = {name: code.function(name, "ptr", "ptr", "i64") for name in names}
        return functions | {"read": code.function("read", "ptr", "ptr", "i64", "i64")}


def chains(isa: Isa, kind: MacKind) -> int:
    """Independent sums of 16 lanes in a loop."""
    return _FLOAT_CHAINS if kind == "f32" and isa.name == "vnni512" else _CHAINS[isa.name]


def macs_of_step(isa: Isa, kind: MacKind) -> int:
    """Multiply-accumulates in one step of the loop of ``kind``."""
    if isa.tiles and kind in _TILE_KINDS:
        return 4 * amx.TILE_ROWS * LANES * amx.TILE_K
    return chains(isa, kind) * LANES * (1 if kind == "f32" else 4)


def _emit_macs(module: Any, isa: Isa, kind: MacKind) -> None:
    """``macs_KIND(operands, sums, steps)``: each step multiplies one word of weights."""
    name = f"macs_{kind}"
    b = Builder.function(module, isa, name, operands="ptr", sums="noalias", steps="i64")
    if isa.tiles and kind in _TILE_KINDS:
        _emit_tile_macs(b)
        return
    count = chains(isa, kind)
    start = b.f32(0.0, LANES) if kind == "f32" else b.i32(0, LANES)
    prepare, add, words = _multiply(b, kind)
    operands = b.pointer("operands")
    fixed = _OPERAND_STEPS * words * 64
    activations = [prepare(operands.load(start.element, fixed + i * 64)) for i in range(count)]
    state = [start] * count
    with b.loop(0, b.value("steps"), carry=state) as step:
        place = (step & (_OPERAND_STEPS - 1)) * (words * 64)
        weights = tuple(operands.load(start.element, place + i * 64) for i in range(words))
        for i in range(count):
            state[i] = add(state[i], activations[i], weights)
    total = state[0]
    for other in state[1:]:
        total = total + other
    b.pointer("sums").store(total)
    b.ret()


def _emit_tile_macs(b: Builder) -> None:
    """Each step multiplies two by two tiles."""
    operands, repeat = b.pointer("operands"), b.i64(0)
    amx.configure(b)
    for tile in (*amx.SUMS[0], *amx.SUMS[1], *amx.ROWS, *amx.COLUMNS):
        amx.load(b, tile, operands, repeat)
    with b.loop(0, b.value("steps")):
        for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
            amx.dot(b, amx.SUMS[i][j], amx.ROWS[i], amx.COLUMNS[j])
    amx.store(b, amx.SUMS[0][0], b.pointer("sums"), repeat)
    amx.release(b)
    b.ret()


def _multiply(b: Builder, kind: MacKind) -> tuple[Prepare, Add, int]:
    """How activations are prepared, multiplied and added, and how many words weights take."""
    if kind != "f32":
        dot = dot_for(b.isa, kind)
        return dot.activation, lambda total, x, w: dot.add(total, x, dot.weight(w)), dot.words
    if b.isa.name == "portable":
        return lambda x: (x,), lambda total, x, w: total + x[0] * w[0], 1

    def fused(total: Value, x: Operand, w: Operand) -> Value:
        return b.intrinsic(f"llvm.fma.v{LANES}f32", llvm_type("f32", LANES), x[0], w[0], total)

    return lambda x: (x,), fused, 1


def _emit_read(module: Any, isa: Isa) -> None:
    """``read(buffer, sums, size, times)``; ``size`` is a multiple of 512."""
    b = Builder.function(module, isa, "read", buffer="ptr", sums="noalias", size="i64", times="i64")
    groups = 8 if isa.name == "vnni512" else 2
    state = [b.i32(0, LANES)] * groups
    buffer = b.pointer("buffer")
    with (
        b.loop(0, b.value("times"), carry=state),
        b.loop(0, b.value("size"), groups * 64, carry=state) as i,
    ):
        for g in range(groups):
            state[g] = state[g] | buffer.load_i32(i + g * 64)
    for g in range(groups):
        b.pointer("sums").store(state[g], g * 64)
    b.ret()


def _rate(run: Callable[[int], object]) -> float:
    """Steps a second of ``run(steps)``: the best of several runs of ``SECONDS``."""
    steps = 1
    while (taken := _seconds(run, steps)) < SECONDS / 4:
        steps *= 4
    steps = max(1, int(steps * SECONDS / taken))
    return steps / min(_seconds(run, steps) for _ in range(REPEATS))


def _seconds(run: Callable[[int], object], steps: int) -> float:
    start = time.perf_counter_ns()
    run(steps)
    return max(1, time.perf_counter_ns() - start) / 1e9
