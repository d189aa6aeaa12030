"""Objects are reproducible and loadable, for the instruction set of each target."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from uqfc import numerics
from uqfc.codegen import jit
from uqfc.codegen.builder import Builder, new_module
from uqfc.codegen.isa import ISAS, PORTABLE, Isa, isa_for
from uqfc.errors import TargetError
from uqfc.targets import load_target


@pytest.mark.parametrize("isa", ISAS.values(), ids=list(ISAS))
def test_objects_are_reproducible(isa: Isa) -> None:
    def build() -> bytes:
        module = new_module(isa, "test")
        b = Builder.function(module, isa, "test", x="ptr")
        with b.loop(0, 64, 16) as i:
            b.pointer("x").store(numerics.hard_swish(b, b.pointer("x").load_f32(i * 4)), i * 4)
        b.ret()
        return jit.compile_object(module, isa)

    assert build() == build()
    assert build()[:4] == b"\x7fELF"


def test_targets_have_an_isa() -> None:
    for name in ("x86-64", "x86-64-v3", "avx-vnni", "avx512-vnni", "avx512-amx"):
        target = load_target(name)
        isa = isa_for(target)
        assert (isa.cpu, isa.triple) == (target.cpu, target.triple)
        assert ISAS[target.isa].name == isa.name
    unknown: Any = SimpleNamespace(isa="mmx")
    with pytest.raises(TargetError, match="'mmx' has no kernels; accepted: amx, vnni512"):
        isa_for(unknown)


def test_functions_keep_their_code_alive() -> None:
    module = new_module(PORTABLE, "test")
    b = Builder.function(module, PORTABLE, "twice", returns="i32", v="i32")
    b.ret(b.value("v") * 2)
    code = jit.load([jit.compile_object(module, PORTABLE)], ["twice"])
    function = code.function("twice", "i32", returns="i32")
    assert code.address("twice")
    del code
    assert function(21) == 42


def test_undefined_symbols_are_an_error() -> None:
    module = new_module(PORTABLE, "test")
    Builder.function(module, PORTABLE, "nothing").ret()
    with pytest.raises(RuntimeError, match="missing"):
        jit.load(jit.compile_object(module, PORTABLE), ["missing"])
