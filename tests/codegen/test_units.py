"""Kernels compiled apart, in parallel or from the cache are the same bytes, and run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uqfc.cache import Cache
from uqfc.codegen import jit
from uqfc.codegen.builder import Builder, new_module
from uqfc.codegen.isa import PORTABLE
from uqfc.codegen.llvm import ir
from uqfc.codegen.units import emptied, split


def module_of(constants: list[int]) -> Any:
    """``run(v)``: ``v`` after a chain of functions that each add a constant."""
    module = new_module(PORTABLE, "test")
    functions: list[Any] = []
    for constant in dict.fromkeys(constants):
        b = Builder.function(
            module, PORTABLE, f"add_{constant}", internal=True, returns="i32", v="i32"
        )
        b.ret(b.value("v") + constant)
        functions.append(b.llvm_function)
    named = dict(zip(dict.fromkeys(constants), functions, strict=True))
    b = Builder.function(module, PORTABLE, "run", returns="i32", v="i32")
    value: Any = b.value("v")
    for constant in constants:
        value = b.call(named[constant], value)
    b.ret(value)
    return module


@given(st.lists(st.integers(-1000, 1000), max_size=6), st.integers(-1000, 1000))
@settings(max_examples=20)
def test_units_together_do_what_the_module_does(constants: list[int], x: int) -> None:
    module = module_of(constants)
    units = split(module)
    assert len(units) == len(set(constants)) + 1
    objects = jit.compile_objects(module, PORTABLE)
    assert objects == [jit.compile_object(unit, PORTABLE) for unit in units]
    assert objects == jit.compile_objects(module, PORTABLE, threads=1)
    assert objects == jit.compile_objects(module, PORTABLE, threads=5)
    run = jit.load(objects, ["run"]).function("run", "i32", returns="i32")
    assert run(x) == x + sum(constants)


def test_a_kernel_of_two_models_is_compiled_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[str] = []
    original = jit.compile_object

    def spy(module: Any, isa: Any) -> bytes:
        compiled.append(module)
        return original(module, isa)

    monkeypatch.setattr(jit, "compile_object", spy)
    cache = Cache(tmp_path)
    first = jit.compile_objects(module_of([1, 2]), PORTABLE, cache)
    assert len(compiled) == 3
    second = jit.compile_objects(module_of([2, 3]), PORTABLE, cache)
    assert len(compiled) == 5  # the kernel that adds 3, and the function that calls the kernels
    assert second[0] == first[1]
    assert jit.compile_objects(module_of([1, 2]), PORTABLE, cache) == first
    assert len(compiled) == 5
    assert jit.compile_objects(module_of([1, 2]), PORTABLE) == first
    assert len(compiled) == 8


def test_what_an_object_depends_on_is_in_its_key(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    changed = [replace(PORTABLE, cpu="x86-64-v3"), replace(PORTABLE, features=("+sse4.1",))]
    for count, isa in enumerate([PORTABLE, *changed], 1):
        objects = jit.compile_objects(module_of([]), isa, cache)
        assert objects == jit.compile_objects(module_of([]), isa)
        assert cache.usage().entries == count


def test_damaged_entries_are_compiled_again(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    objects = jit.compile_objects(module_of([4]), PORTABLE, cache)
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:-1] + b"!")
    assert jit.compile_objects(module_of([4]), PORTABLE, cache) == objects
    assert jit.compile_objects(module_of([4]), PORTABLE, cache) == objects


def test_a_module_is_as_good_as_text() -> None:
    module = module_of([1, 2])
    units, whole = split(module), jit.compile_object(module, PORTABLE)
    text = emptied(module)
    assert split(text) == units
    assert jit.compile_object(text, PORTABLE) == whole
    assert list(text.functions) == ["add_1", "add_2", "run"]
    assert not any(function.blocks for function in module.globals.values())


def test_units_share_no_variables() -> None:
    module = module_of([])
    ir.GlobalVariable(module, ir.IntType(32), "counter")
    with pytest.raises(ValueError, match="'counter' is no function"):
        split(module)
