"""A tiny model written by hand in LLVM IR: ``y = x * weights[0]`` and ``z = uint8(i + 1)``."""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np
import pytest

from uqfc.codegen import linker
from uqfc.codegen.artifact import encode_info
from uqfc.codegen.isa import isa_for
from uqfc.codegen.jit import load, target_machine
from uqfc.codegen.llvm import binding as llvm
from uqfc.targets import Target, load_target
from uqfc_runtime import ABI_VERSION, Model
from uqfc_runtime.binding import Addresses

COUNT = 40
ARENA_BYTES = 4 * COUNT
FACTOR = 1.5
TARGET = load_target("x86-64")
WEIGHTS = np.array([FACTOR], np.float32).tobytes() + bytes(range(200))

needs_linker = pytest.mark.skipif(
    not any(linker.linkers("x86_64")), reason="no linker on this machine"
)
needs_cc = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler on this machine")

KERNELS_IR = f"""
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)
declare void @llvm.memmove.p0.p0.i64(ptr, ptr, i64, i1)

define void @scale(ptr %x, ptr %y, ptr %factor) nounwind {{
entry:
  %f = load float, ptr %factor
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
  %px = getelementptr float, ptr %x, i64 %i
  %py = getelementptr float, ptr %y, i64 %i
  %v = load float, ptr %px
  %w = fmul float %v, %f
  store float %w, ptr %py
  %next = add i64 %i, 1
  %more = icmp ult i64 %next, {COUNT}
  br i1 %more, label %loop, label %done
done:
  ret void
}}

define void @uqf_internal_run(ptr %in, ptr %out, ptr %arena, ptr %weights,
                              i64 %part, i64 %parts, ptr %sync) nounwind {{
  %x = load ptr, ptr %in
  %pi = getelementptr ptr, ptr %in, i64 1
  %i = load ptr, ptr %pi
  %y = load ptr, ptr %out
  %pz = getelementptr ptr, ptr %out, i64 1
  %z = load ptr, ptr %pz
  %flag = load i8, ptr %i
  %next = add i8 %flag, 1
  %low = and i8 %flag, 127
  %size = zext i8 %low to i64
  call void @llvm.memset.p0.i64(ptr %arena, i8 %flag, i64 %size, i1 false)
  call void @llvm.memmove.p0.p0.i64(ptr %arena, ptr %weights, i64 %size, i1 false)
  call void @llvm.memcpy.p0.p0.i64(ptr %arena, ptr %x, i64 {ARENA_BYTES}, i1 false)
  call void @scale(ptr %arena, ptr %y, ptr %weights)
  store i8 %next, ptr %z
  ret void
}}
"""


def make_info(**changes: Any) -> dict[str, Any]:
    """The model info of the toy; ``changes`` replace top-level fields."""
    info: dict[str, Any] = {
        "abi": ABI_VERSION,
        "producer": "uqfc test",
        "name": "toy",
        "target": TARGET.model_dump(include={"name", "triple", "isa", "cpu_features"}),
        "inputs": [
            {"name": "x", "dtype": "float32", "shape": [2, COUNT // 2]},
            {"name": "i", "dtype": "uint8", "shape": [1]},
        ],
        "outputs": [
            {"name": "y", "dtype": "float32", "shape": [COUNT]},
            {"name": "z", "dtype": "uint8", "shape": [1]},
        ],
        "arena": {"bytes": ARENA_BYTES, "alignment": 64},
        "weights_bytes": len(WEIGHTS),
        "threads": 1,
        "quant_strategy": None,
        "layers": [
            {
                "name": "scale",
                "op": "Mul",
                "requested": "int4",
                "chosen": "float32",
                "reason": "no_kernel",
            },
        ],
        "uqr": {},
    }
    return info | changes


def toy_object(target: Target = TARGET) -> bytes:
    """The ELF object of the kernels."""
    machine = target_machine(isa_for(target))
    module: Any = llvm.parse_assembly(KERNELS_IR, context=llvm.create_context())
    module.triple = target.triple
    return machine.emit_object(module)


def toy_model(**changes: Any) -> Model:
    """The toy, just in time."""
    code = load(toy_object(), ["uqf_internal_run"])
    addresses = Addresses(code.address("uqf_internal_run"))
    return Model.from_functions(addresses, encode_info(make_info(**changes)), WEIGHTS, owner=code)


def toy_inputs(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((2, COUNT // 2)).astype(np.float32)
    return {"x": x, "i": np.array([seed % 256], np.uint8)}
