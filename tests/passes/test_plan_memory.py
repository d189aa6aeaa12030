from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from xdsl.dialects.builtin import MemRefType, ModuleOp

from tests.networks import assert_kernels_exact, integer, networks, quantized_networks
from uqfc.dialects.nn import ReshapeOp
from uqfc.dialects.qkernel import ALIGNMENT, ArenaOp, LaunchOp, ViewOp, memref_bytes
from uqfc.interpreter import main_function
from uqfc.passes.form_kernels import FormKernelsPass
from uqfc.passes.plan_memory import SLACK, Buffer, PlanMemoryPass, padded, place


@st.composite
def buffers(draw: st.DrawFn) -> Buffer:
    first, last = sorted(draw(st.tuples(st.integers(0, 12), st.integers(0, 12))))
    return Buffer(padded(draw(st.integers(0, 1000))), first, last)


@given(st.lists(buffers(), max_size=20))
def test_buffers_that_live_together_do_not_overlap(listed: list[Buffer]) -> None:
    offsets, total = place(listed)
    for i, a in enumerate(listed):
        assert offsets[i] % ALIGNMENT == 0
        assert 0 <= offsets[i] <= offsets[i] + a.size <= total
        for j, b in enumerate(listed[:i]):
            apart = offsets[i] + a.size <= offsets[j] or offsets[j] + b.size <= offsets[i]
            assert apart or a.last < b.first or b.last < a.first


@given(st.lists(buffers(), max_size=20))
def test_the_arena_is_between_what_lives_at_once_and_everything(listed: list[Buffer]) -> None:
    _, total = place(listed)
    steps = range(13)
    at_once = max(sum(b.size for b in listed if b.first <= s <= b.last) for s in steps)
    assert at_once <= total <= sum(b.size for b in listed)


@given(st.lists(buffers(), max_size=8).flatmap(lambda b: st.tuples(st.just(b), st.permutations(b))))
def test_the_size_depends_on_the_buffers_alone(pair: tuple[list[Buffer], list[Buffer]]) -> None:
    assert place(pair[0])[1] == place(pair[1])[1]


@given(st.integers(0, 10_000))
def test_buffers_have_slack_and_are_aligned(size: int) -> None:
    assert padded(size) % ALIGNMENT == 0
    assert size + SLACK <= padded(size) < size + SLACK + ALIGNMENT


def check(module: ModuleOp) -> None:
    result = assert_kernels_exact(module, FormKernelsPass(), PlanMemoryPass())
    function = main_function(result)
    assert not function.function_type.outputs.data
    assert all(isinstance(a.type, MemRefType) for a in function.body.block.args)
    arenas = [op for op in result.walk() if isinstance(op, ArenaOp)]
    assert len(arenas) == 1
    for op in function.body.block.ops:
        assert not isinstance(op, ReshapeOp)
        if isinstance(op, LaunchOp):
            assert len(op.into) == 1
        if isinstance(op, ViewOp):
            end = op.offset.value.data + memref_bytes(op.result.type)
            assert end + SLACK <= arenas[0].size


@settings(max_examples=25)
@given(quantized_networks())
def test_exact_on_integers(module: ModuleOp) -> None:
    check(integer(module))


@settings(max_examples=15)
@given(networks(max_steps=8))
def test_exact_on_floats(module: ModuleOp) -> None:
    check(module)
