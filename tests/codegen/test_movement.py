"""Movements of elements give what the interpreter gives, on every element type."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.codegen.harness import SEEDS
from tests.codegen.tensor_harness import (
    DTYPES,
    SIZES,
    check,
    every_isa,
    few_examples,
    operand,
    random_array,
)
from uqfc.codegen.isa import VNNI512, Isa
from uqfc.codegen.kernels import movement
from uqfc.codegen.kernels.geometry import collapse, dense_strides
from uqfc.codegen.kernels.movement import PadMode
from uqfc.codegen.kernels.tensor import Dtype
from uqfc.dialects import nn

SHAPES = st.tuples(st.integers(1, 3), SIZES, st.integers(1, 3), SIZES)


@every_isa
@given(seed=SEEDS, dtype=DTYPES, shape=SHAPES, permutation=st.permutations(range(4)))
@few_examples
def test_transpose(
    isa: Isa, seed: int, dtype: Dtype, shape: tuple[int, ...], permutation: list[int]
) -> None:
    x = random_array(np.random.default_rng(seed), dtype, shape)
    kernel = movement.transpose(isa, dtype, shape, tuple(permutation))
    check(isa, kernel, nn.TransposeOp(operand(x), permutation), x)


@every_isa
@given(seed=SEEDS, dtype=DTYPES, shape=SHAPES, data=st.data())
@few_examples
def test_broadcast(
    isa: Isa, seed: int, dtype: Dtype, shape: tuple[int, ...], data: st.DataObject
) -> None:
    own = data.draw(st.tuples(*(st.sampled_from([1, n]) for n in shape)))
    own = own[data.draw(st.integers(0, 3)) :]
    x = random_array(np.random.default_rng(seed), dtype, own)
    kernel = movement.broadcast(isa, dtype, own, shape)
    check(isa, kernel, nn.BroadcastOp(operand(x), shape), x)


@every_isa
@given(seed=SEEDS, dtype=DTYPES, shape=SHAPES, data=st.data())
@few_examples
def test_slice(
    isa: Isa, seed: int, dtype: Dtype, shape: tuple[int, ...], data: st.DataObject
) -> None:
    starts = tuple(data.draw(st.integers(0, n - 1)) for n in shape)
    steps = tuple(data.draw(st.sampled_from([1, 1, 2, 3, -1, -2])) for _ in shape)
    rooms = [n - s if step > 0 else s + 1 for n, s, step in zip(shape, starts, steps, strict=True)]
    most = [-(-room // abs(step)) for room, step in zip(rooms, steps, strict=True)]
    sizes = tuple(data.draw(st.integers(1, m)) for m in most)
    x = random_array(np.random.default_rng(seed), dtype, shape)
    kernel = movement.slice_tensor(isa, dtype, shape, starts, steps, sizes)
    check(isa, kernel, nn.SliceOp(operand(x), starts, sizes, steps), x)


@every_isa
@given(
    seed=SEEDS,
    dtype=DTYPES,
    shape=SHAPES,
    axis=st.integers(0, 3),
    sizes=st.lists(SIZES, min_size=1, max_size=4),
)
@few_examples
def test_concat(
    isa: Isa, seed: int, dtype: Dtype, shape: tuple[int, ...], axis: int, sizes: list[int]
) -> None:
    rng = np.random.default_rng(seed)
    shapes = [(*shape[:axis], n, *shape[axis + 1 :]) for n in sizes]
    parts = [random_array(rng, dtype, s) for s in shapes]
    op = nn.ConcatOp([operand(p) for p in parts], axis)
    check(isa, movement.concat(isa, dtype, shapes, axis), op, *parts)


@every_isa
@given(
    seed=SEEDS, dtype=DTYPES, shape=SHAPES, mode=st.sampled_from(get_args(PadMode)), data=st.data()
)
@few_examples
def test_pad(
    isa: Isa,
    seed: int,
    dtype: Dtype,
    shape: tuple[int, ...],
    mode: PadMode,
    data: st.DataObject,
) -> None:
    """Also by more than the size, where reflected and wrapped elements repeat."""
    amounts = st.sampled_from([0, 0, 1, 2, 5])
    low = tuple(data.draw(amounts) for _ in shape)
    high = tuple(data.draw(amounts) for _ in shape)
    value = float(data.draw(st.integers(0, 100)))
    x = random_array(np.random.default_rng(seed), dtype, shape)
    kernel = movement.pad(isa, dtype, shape, low, high, mode, value)
    check(isa, kernel, nn.PadOp(operand(x), low, high, value, mode), x)


@every_isa
@given(seed=SEEDS, groups=st.integers(2, 5), count=st.integers(1, 70))
@few_examples
def test_channel_shuffle(isa: Isa, seed: int, groups: int, count: int) -> None:
    shape = (2, 3, groups, count)
    x = random_array(np.random.default_rng(seed), "u8", shape)
    kernel = movement.transpose(isa, "u8", shape, (0, 1, 3, 2))
    check(isa, kernel, nn.TransposeOp(operand(x), (0, 1, 3, 2)), x)


@pytest.mark.parametrize(
    ("groups", "count", "mode"),
    [(2, 58, "interleaved2x32"), (2, 31, "interleaved2x16"), (4, 90, "interleaved4x16")],
)
def test_few_groups_of_channels_are_shuffled_in_vectors(groups: int, count: int, mode: str) -> None:
    kernel = movement.transpose(VNNI512, "u8", (6, groups, count), (0, 2, 1))
    assert kernel.name == f"copy_{mode}_b1_d3__vnni512"


def test_a_channel_concat_is_copied_in_runs() -> None:
    kernel = movement.concat(VNNI512, "u8", [(1, 4, 4, 3), (1, 4, 4, 5)], 3)
    assert kernel.name == "copy_bytes_b1_d2__vnni512"


def test_a_reshape_is_one_run() -> None:
    kernel = movement.broadcast(VNNI512, "f32", (2, 3, 4), (2, 3, 4))
    assert kernel.name == "copy_bytes_b4_d1__vnni512"


@given(st.lists(st.integers(0, 4), max_size=5))
def test_collapse_of_dense_tensors_is_one_loop(sizes: list[int]) -> None:
    strides = dense_strides(tuple(sizes))
    walk = collapse(tuple(sizes), [strides, strides])
    assert np.prod(walk.sizes) == np.prod(sizes)
    if 0 not in sizes:
        assert len(walk.sizes) == 1


def test_shapes_that_do_not_broadcast_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(3,\) does not broadcast to \(2, 4\)"):
        movement.broadcast(VNNI512, "f32", (3,), (2, 4))
