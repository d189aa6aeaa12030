from __future__ import annotations

import ctypes
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.codegen.toy import (
    ARENA_BYTES,
    COUNT,
    FACTOR,
    KERNELS_IR,
    TARGET,
    WEIGHTS,
    toy_inputs,
)
from uqfc.codegen.entry_points import (
    MEMORY_FUNCTIONS_IR,
    SHARED_OBJECT_SYMBOLS,
    embed_weights,
    entry_points_ir,
)
from uqfc.codegen.isa import isa_for
from uqfc.codegen.jit import LoadedCode, load, target_machine
from uqfc.codegen.llvm import binding as llvm
from uqfc_runtime.binding import aligned_bytes

SIZE = 200

sizes = st.integers(0, SIZE)
contents = st.binary(min_size=SIZE, max_size=SIZE)


RUN_DECLARATION = "declare hidden void @uqf_internal_run(ptr, ptr, ptr, ptr, i64, i64, ptr)"


def entry_points(weights_bytes: int) -> str:
    return entry_points_ir(SHARED_OBJECT_SYMBOLS, b"{}", weights_bytes, 1, TARGET.triple)


def compile_ir(text: str) -> bytes:
    module = llvm.parse_assembly(text, context=llvm.create_context())
    module.triple = TARGET.triple
    module.verify()
    return target_machine(isa_for(TARGET)).emit_object(module)


@pytest.fixture(scope="module")
def memory() -> LoadedCode:
    """The memory functions under other names, as this process has its own."""
    text = MEMORY_FUNCTIONS_IR.replace("weak hidden ", "").replace("@mem", "@our_mem")
    return load(compile_ir(text), ["our_memcpy", "our_memmove", "our_memset"])


@given(contents, contents, sizes)
@settings(max_examples=60, deadline=None)
def test_memcpy(memory: LoadedCode, to: bytes, source: bytes, size: int) -> None:
    target = ctypes.create_string_buffer(to, SIZE)
    function = memory.function("our_memcpy", "ptr", "ptr", "i64", returns="ptr")
    assert function(target, source, size) == ctypes.addressof(target)
    assert target.raw == source[:size] + to[size:]


@given(contents, sizes, sizes, sizes)
@settings(max_examples=100, deadline=None)
def test_memmove(memory: LoadedCode, content: bytes, to: int, source: int, size: int) -> None:
    size = min(size, SIZE - max(to, source))
    buffer = ctypes.create_string_buffer(content, SIZE)
    address = ctypes.addressof(buffer)
    function = memory.function("our_memmove", "ptr", "ptr", "i64", returns="ptr")
    assert function(address + to, address + source, size) == address + to
    expected = content[:to] + content[source : source + size] + content[to + size :]
    assert buffer.raw == expected


@given(contents, st.integers(0, 255), sizes)
@settings(max_examples=60, deadline=None)
def test_memset(memory: LoadedCode, content: bytes, value: int, size: int) -> None:
    buffer = ctypes.create_string_buffer(content, SIZE)
    function = memory.function("our_memset", "ptr", "i32", "i64", returns="ptr")
    assert function(buffer, value, size) == ctypes.addressof(buffer)
    assert buffer.raw == bytes([value]) * size + content[size:]


@given(st.binary(max_size=300))
@settings(max_examples=20, deadline=None)
def test_weights_are_in_the_object_followed_by_zeros(weights: bytes) -> None:
    code = compile_ir(entry_points(len(weights)))
    embedded = embed_weights(code, weights)
    assert len(embedded) == len(code)
    assert weights + bytes(64) in embedded


def test_object_without_a_place_for_weights() -> None:
    with pytest.raises(ValueError, match="no unique place"):
        embed_weights(b"\x7fELF", b"")


def test_optimizer_does_not_take_the_place_of_the_weights_for_their_values() -> None:
    entry = entry_points(len(WEIGHTS))
    text = entry.replace(RUN_DECLARATION, KERNELS_IR)
    assert text != entry
    module = llvm.parse_assembly(text.replace("define void @", "define internal void @"))
    machine = target_machine(isa_for(TARGET))
    passes = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=3))
    passes.getModulePassManager().run(module, passes)
    code = load([bytes(embed_weights(machine.emit_object(module), WEIGHTS))], ["uqf_model_run"])
    run = code.function("uqf_model_run", "ptr", "ptr", "ptr", returns="i32")
    inputs, arena = toy_inputs(3), aligned_bytes(ARENA_BYTES, 64)
    outputs = [np.empty(COUNT, np.float32), np.empty(1, np.uint8)]
    status = run(pointers(inputs.values()), pointers(outputs), arena.ctypes.data)
    assert status == 0
    np.testing.assert_array_equal(outputs[0], inputs["x"].reshape(-1) * np.float32(FACTOR))


def pointers(arrays: Iterable[np.ndarray]) -> Any:
    addresses = [array.ctypes.data for array in arrays]
    return (ctypes.c_void_p * len(addresses))(*addresses)
