"""AMX code does what the definition says; without AMX it runs under the emulator."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import Any

import numpy as np
import pytest

from tests.codegen import amx
from uqfc.codegen import jit
from uqfc.codegen.builder import Builder, new_module
from uqfc.codegen.isa import AMX
from uqfc.codegen.isa import amx as tiles

needs_amx = pytest.mark.skipif(amx.why_not() is not None, reason=str(amx.why_not()))
needs_emulator = pytest.mark.skipif(
    amx.why_not() is not None or amx.native(), reason=str(amx.why_not() or "this CPU has AMX")
)


def product(configured: bool = True) -> Any:
    """``f(a, w, addend, out, lda)``: one tile."""
    module = new_module(AMX, "test")
    pointers = dict.fromkeys(("a", "w", "addend", "out"), "ptr")
    b = Builder.function(module, AMX, "run", **pointers, lda="i64")
    if configured:
        tiles.configure(b)
    tiles.load(b, 0, b.pointer("addend"), b.i64(0))
    tiles.load(b, 4, b.pointer("a"), b.value("lda"))
    tiles.load(b, 6, b.pointer("w") + 64, b.i64(128))
    tiles.dot(b, 0, 4, 6)
    tiles.store(b, 0, b.pointer("out"), b.i64(64))
    tiles.release(b)
    b.ret()
    return jit.load(jit.compile_object(module, AMX), ["run"]).function("run", *["ptr"] * 4, "i64")


@needs_amx
def test_tiles() -> None:
    rng = np.random.default_rng(1)
    a = rng.integers(0, 256, (16, 70), np.uint8)
    w = rng.integers(-128, 128, (16, 32, 4)).astype(np.int8)
    addend = rng.integers(-(2**20), 2**20, 16).astype(np.int32)
    out = np.zeros((16, 16), np.int32)
    amx.executed()
    product()(*[array.ctypes.data for array in (a, w, addend, out)], 70)
    counts = amx.executed()
    assert counts in (None, amx.Counts(configure=1, release=1, zero=0, load=3, store=1, dot=1))
    columns = w[:, 16:].transpose(0, 2, 1).reshape(64, 16).astype(np.int32)
    np.testing.assert_array_equal(out, a[:, :64].astype(np.int32) @ columns + addend)


@needs_emulator
def test_the_emulator_refuses_what_would_fault() -> None:
    """In another process, which it ends."""
    program = textwrap.dedent("""
        from tests.codegen import amx
        from tests.codegen.test_amx import product
        assert amx.why_not() is None
        product(configured=False)(0, 0, 0, 0, 0)
    """)
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 132
    assert "no tile configuration is loaded" in ran.stderr
