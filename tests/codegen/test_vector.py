"""The builder layer: values, memory, control flow and the arithmetic of the contract, executed."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.codegen.harness import GUARD, GuardedBuffer, host_isas
from uqfc import numerics
from uqfc.codegen import jit
from uqfc.codegen.builder import Builder, find_function, new_module
from uqfc.codegen.isa import ISAS, VNNI512, Isa
from uqfc.codegen.vector import LANES, Value
from uqfc.numerics import Activation

HOST = pytest.mark.parametrize("isa", host_isas())
BITS = st.lists(st.integers(0, 2**32 - 1), min_size=LANES, max_size=LANES)
ACTIVATIONS = [
    Activation("relu"),
    Activation("clip", (-1.5, 2.25)),
    Activation("hard_sigmoid", (0.2, 0.5)),
    Activation("hard_swish"),
    Activation("leaky_relu", (0.01,)),
]


def run(
    isa: Isa, emit: Callable[[Builder], None], *arrays: NDArray[Any], **scalars: tuple[str, int]
) -> None:
    """Compiles ``emit`` with pointer parameters ``p0, p1, …`` and those scalars, and runs it."""
    module = new_module(isa, "test")
    pointers = {f"p{i}": "ptr" for i in range(len(arrays))}
    kinds = {name: kind for name, (kind, _) in scalars.items()}
    b = Builder.function(module, isa, "test", internal=False, **(pointers | kinds))
    emit(b)
    b.ret()
    code = jit.load(jit.compile_object(module, isa), ["test"])
    call = code.function("test", *pointers.values(), *kinds.values())
    call(*[a.ctypes.data for a in arrays], *[value for _, value in scalars.values()])


def elementwise(isa: Isa, x: NDArray[Any], function: Callable[[Builder, Value], Value]) -> Any:
    """``function`` of 16 lanes of ``x`` (float32 or int32), as int32 bits."""
    out = np.zeros(LANES, np.int32)
    element = "f32" if x.dtype == np.float32 else "i32"

    def emit(b: Builder) -> None:
        b.pointer("p1").store(function(b, b.pointer("p0").load(element)))

    run(isa, emit, np.ascontiguousarray(x), out)
    return out


def assert_same_floats(bits: NDArray[np.int32], expected: NDArray[np.float32]) -> None:
    """Equal bits, but for the bits of a NaN."""
    nan = np.isnan(expected)
    np.testing.assert_array_equal(np.isnan(bits.view(np.float32)), nan)
    np.testing.assert_array_equal(bits[~nan], expected.astype(np.float32).view(np.int32)[~nan])


@HOST
@settings(max_examples=10)
@given(BITS, st.sampled_from(ACTIVATIONS))
def test_activations_are_the_definition(isa: Isa, bits: list[int], activation: Activation) -> None:
    x = np.array(bits, np.uint32).view(np.float32)
    x[:4] = [-0.0, 3.0, -3.0, np.inf]
    with np.errstate(all="ignore"):
        expected = activation(numerics.NUMPY, x)
    assert_same_floats(elementwise(isa, x, activation), expected)


@HOST
def test_rounding_keeps_ties_signs_and_denormals(isa: Isa) -> None:
    x = np.array([0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 0.0, -0.0], np.float32)
    more = [1e-45, -1e-45, 4194303.5, -4194303.5, 0.4999999, 7, -7, 9]
    x = np.concatenate([x, np.array(more, np.float32)])
    assert_same_floats(elementwise(isa, x, lambda b, v: b.rint(v)), np.rint(x))
    rounded = np.rint(x).astype(np.int32)
    np.testing.assert_array_equal(elementwise(isa, x, lambda b, v: b.to_int(b.rint(v))), rounded)
    clamped = np.clip(x, -300, 300).astype(np.float32)
    np.testing.assert_array_equal(
        elementwise(isa, clamped, lambda b, v: b.round_clamped(v, 17)),
        17 + numerics.round_clamped(clamped, -300, 300),
    )


@HOST
def test_to_float_rounds_half_to_even(isa: Isa) -> None:
    x = np.array([2**24 + 1, 2**24 + 3, -(2**24) - 1, 2**31 - 1, -(2**31), 0, 1, -1] * 2, np.int32)
    expected = x.astype(np.float32)
    assert_same_floats(elementwise(isa, x, lambda b, v: b.to_float(v)), expected)


@HOST
def test_products_are_rounded_before_sums(isa: Isa) -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal(LANES).astype(np.float32)
    bits = elementwise(isa, x, lambda _, v: v * v + v)
    assert_same_floats(bits, (x * x) + x)
    assert (x.astype(np.float64) * x + x).astype(np.float32).tolist() != ((x * x) + x).tolist()


@HOST
def test_float_operators(isa: Isa) -> None:
    x = np.array([3, -7, 0.1, 1e30] * 4, np.float32)
    third = np.float32(1 / 3)
    expected = np.float32(2) - x / np.float32(3)
    assert_same_floats(elementwise(isa, x, lambda _, v: 2.0 - v / 3.0), expected)
    assert_same_floats(elementwise(isa, x, lambda _, v: 1 / 3 * v), third * x)
    assert_same_floats(
        elementwise(isa, x, lambda _, v: 1.0 / v + 1.0), np.reciprocal(x) + np.float32(1)
    )
    assert_same_floats(elementwise(isa, x, lambda _, v: -v), -x)
    assert_same_floats(elementwise(isa, np.abs(x), lambda b, v: b.sqrt(v)), np.sqrt(np.abs(x)))
    nan = np.where(x < 0, np.float32(np.nan), x)
    expected = np.where(np.isnan(nan), np.float32(0), nan)
    assert_same_floats(elementwise(isa, nan, lambda b, v: b.nan_to_zero(v)), expected)


@HOST
def test_integer_operators(isa: Isa) -> None:
    x = np.array([5, -6, 2**31 - 1, -(2**31)] * 4, np.int32)
    logical = (x.view(np.uint32) >> 5).view(np.int32)
    cases: list[tuple[Callable[[Builder, Value], Value], NDArray[Any]]] = [
        (lambda _, v: (v >> 3) + (v & 12), (x >> 3) + (x & 12)),
        (lambda _, v: (v << 2) | 1, (x << 2) | 1),
        (lambda _, v: (v ^ 0x55) - 9, (x ^ 0x55) - np.int32(9)),
        (lambda _, v: v.shift_right_logical(5), logical),
        (lambda _, v: v.shift_right_logical(1) // 7, (x.view(np.uint32) >> 1).view(np.int32) // 7),
        (lambda _, v: v.shift_right_logical(1) % 7, (x.view(np.uint32) >> 1).view(np.int32) % 7),
        (lambda _, v: -v, -x),
        (lambda b, v: b.select(v.ge(5), v, v * 2), np.where(x >= 5, x, x * np.int32(2))),
        (lambda b, v: b.select(v.eq(5) | v.ne(-6), v, v * 0), np.where(x != -6, x, 0)),
        (lambda b, v: b.select(v.le(5) & v.gt(-9), v, v * 0), np.where((x <= 5) & (x > -9), x, 0)),
        (lambda _, v: v.bitcast("i8", 64).sext("i32").shuffle(range(16)), x.view(np.int8)[:16]),
    ]
    with np.errstate(over="ignore"):
        for function, expected in cases:
            np.testing.assert_array_equal(elementwise(isa, x, function), expected)


@HOST
@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.uint8])
@pytest.mark.parametrize("static", [True, False])
def test_tails_touch_nothing_past_their_count(isa: Isa, dtype: Any, static: bool) -> None:
    element = {np.float32: "f32", np.int32: "i32", np.uint8: "i8"}[dtype]
    for count in (0, 1, 2, 3, 5, 8, 13, 15, 16):
        data = (np.arange(count) + 40).astype(dtype)
        source = GuardedBuffer(data, 0)
        target = GuardedBuffer(np.zeros(count, dtype), 0)
        whole = np.full(LANES, 99, dtype)

        def emit(b: Builder, count: int = count) -> None:
            first = count if static else b.value("count")
            v = b.pointer("p0").load_first(element, first)
            b.pointer("p1").store_first(v, first)
            b.pointer("p2").store(v)

        arrays = [np.frombuffer(whole, np.uint8)]
        call_with(isa, emit, source.address, target.address, arrays[0].ctypes.data, count=count)
        np.testing.assert_array_equal(target.bytes, source.bytes)
        np.testing.assert_array_equal(whole[:count], data)
        assert not whole[count:].any()


def call_with(isa: Isa, emit: Callable[[Builder], None], *addresses: int, count: int) -> None:
    """``run`` for addresses, with an i64 parameter ``count``."""
    module = new_module(isa, "test")
    pointers = {f"p{i}": "ptr" for i in range(len(addresses))}
    b = Builder.function(module, isa, "test", internal=False, **(pointers | {"count": "i64"}))
    emit(b)
    b.ret()
    code = jit.load(jit.compile_object(module, isa), ["test"])
    code.function("test", *pointers.values(), "i64")(*addresses, count)


@HOST
def test_stores_of_bytes(isa: Isa) -> None:
    x = np.arange(0, 256, 16, dtype=np.int32)
    out = np.full(2 * GUARD, 7, np.uint8)

    def emit(b: Builder) -> None:
        v = b.pointer("p0").load_i32() | 15
        b.pointer("p1").store_u8(v, 8)
        b.pointer("p1").store_u8_first(v, 3, 32)
        signed = b.pointer("p1").load_s8_as_i32(8) + b.pointer("p1").load_u8_as_i32(8)
        b.pointer("p1").store(signed, GUARD)

    run(isa, emit, x, out)
    expected = np.full(GUARD, 7, np.uint8)
    expected[8:24] = x | 15
    expected[32:35] = (x | 15)[:3]
    np.testing.assert_array_equal(out[:GUARD], expected)
    signed = (x | 15).astype(np.uint8).view(np.int8).astype(np.int32) + (x | 15)
    np.testing.assert_array_equal(out[GUARD:].view(np.int32), signed)


@HOST
@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_loops_carry_values_and_pointers(isa: Isa, count: int) -> None:
    x = np.arange(10, dtype=np.int64)
    out = np.zeros(2, np.int64)

    def emit(b: Builder) -> None:
        total: list[Value] = [b.i64(0), b.i64(100)]
        with b.loop(0, b.value("count"), carry=total) as i:
            with b.loop(i, 3, 2, carry=total):
                total[1] = total[1] + 1
            total[0] = total[0] + b.pointer("p0").load("i64", i * 8, 0)
        cursor = [b.pointer("p1")]
        with b.loop(0, 2, carry=cursor) as i:
            cursor[0].store(b.select(i.eq(0), total[0], total[1]))
            cursor[0] = cursor[0] + 8

    run(isa, emit, x, out, count=("i64", count))
    inner = sum(len(range(i, 3, 2)) for i in range(count))
    np.testing.assert_array_equal(out, [sum(range(count)), 100 + inner])


@HOST
def test_while_loops(isa: Isa) -> None:
    out = np.zeros(2, np.int64)

    def emit(b: Builder) -> None:
        state = [b.value("n"), b.i64(0)]
        with b.while_loop(lambda: state[0].ne(1), state):
            value, steps = state
            odd = (value & 1).ne(0)
            state[:] = [b.select(odd, value * 3 + 1, value // 2), steps + 1]
        b.pointer("p0").store(state[0])
        b.pointer("p0").store(state[1], 8)

    run(isa, emit, out, n=("i64", 27))
    np.testing.assert_array_equal(out, [1, 111])


@HOST
@pytest.mark.parametrize("flag", [0, 1])
def test_branches_and_calls(isa: Isa, flag: int) -> None:
    out = np.zeros(4, np.int32)

    def emit(b: Builder) -> None:
        helper = find_function(b.module, "helper")
        if helper is None:
            inner = Builder.function(
                b.module, isa, "helper", internal=True, returns="i32", v="i32", w="f32"
            )
            converted = inner.to_int(inner.value("w"))
            helper = inner.ret(inner.value("v") + converted)
        assert find_function(b.module, "helper") is helper
        condition = b.value("flag").ne(0)
        with b.when(condition):
            b.pointer("p0").store(b.i32(5))
        with b.if_else(condition) as (then, other):
            with then:
                b.pointer("p0").store(b.i32(1), 4)
            with other:
                b.pointer("p0").store(b.i32(2), 4)
        result = b.call(helper, 40, 2.0)
        assert result is not None
        b.pointer("p0").store(result, 8)

    run(isa, emit, out, flag=("i32", flag))
    np.testing.assert_array_equal(out, [5 * flag, 2 - flag, 42, 0])


@HOST
def test_sums_are_the_definitions_tree(isa: Isa) -> None:
    x = np.random.default_rng(3).standard_normal(LANES).astype(np.float32) * 1e3
    bits = elementwise(isa, x, lambda b, v: b.tree_sum(v).splat(LANES))
    assert_same_floats(bits, np.full(LANES, numerics.tree_sum(x)))


def test_lanes_must_match() -> None:
    b = Builder.function(new_module(VNNI512, "test"), VNNI512, "test")
    with pytest.raises(TypeError, match="cannot splat 8 lanes to 16"):
        _ = b.f32(1.0, 8) + b.f32(1.0, 16)
    with pytest.raises(TypeError, match="operator is not defined on f32"):
        _ = b.f32(1.0) & 3


def test_the_documented_example_compiles() -> None:
    from uqfc.codegen import vector

    lines = (vector.__doc__ or "").split("::\n", 1)[1].splitlines()
    source = "\n".join(re.sub("^    ", "", line) for line in lines)
    isa = ISAS["portable"]
    scope: dict[str, Any] = {"isa": isa, "jit": jit, "numerics": numerics}
    exec(source, scope | {"Builder": Builder, "new_module": new_module}, scope)
    x = np.linspace(-8, 8, 37, dtype=np.float32)
    y = np.zeros_like(x)
    scope["f"](x.ctypes.data, y.ctypes.data, len(x), 0.5)
    np.testing.assert_array_equal(y, numerics.hard_swish(numerics.NUMPY, x * np.float32(0.5)))
