"""The algebra of permutations, against NumPy."""

from __future__ import annotations

from math import prod

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from uqfc.passes.support.layout import (
    extended,
    inverse,
    moves_only_units,
    permuted,
    reshape_groups,
    sink_through_reshape,
)

SHAPES = st.lists(st.sampled_from([1, 2, 3, 4]), min_size=1, max_size=4).map(tuple)


def numbered(shape: tuple[int, ...]) -> np.ndarray:
    return np.arange(prod(shape)).reshape(shape)


@st.composite
def permuted_shapes(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...]]:
    shape = draw(SHAPES)
    return shape, tuple(draw(st.permutations(range(len(shape)))))


@st.composite
def reshapes(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Two shapes of as many elements, made of the same factors in the same order."""
    factors = draw(st.lists(st.sampled_from([1, 2, 2, 3]), min_size=1, max_size=6))
    return grouped(draw, factors), grouped(draw, factors)


def grouped(draw: st.DrawFn, factors: list[int]) -> tuple[int, ...]:
    shape: list[int] = []
    for factor in factors:
        if shape and draw(st.booleans()):
            shape[-1] *= factor
        else:
            shape.append(factor)
    return tuple(shape)


@given(permuted_shapes())
def test_inverse_undoes(case: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    shape, p = case
    assert numbered(shape).transpose(p).shape == permuted(shape, p)
    assert permuted(permuted(shape, p), inverse(p)) == shape


@given(permuted_shapes())
def test_moving_only_units_keeps_the_order(case: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    shape, p = case
    ordered = bool((np.diff(numbered(shape).transpose(p).reshape(-1)) == 1).all())
    assert moves_only_units(shape, p) == ordered


@given(permuted_shapes())
def test_extended_commutes_with_leading_ones(
    case: tuple[tuple[int, ...], tuple[int, ...]],
) -> None:
    shape, p = case
    x = numbered(shape)
    assert np.array_equal(x[None, None].transpose(extended(p, len(p) + 2))[0, 0], x.transpose(p))


@given(reshapes())
def test_groups_cover_all_axes_with_equal_products(
    case: tuple[tuple[int, ...], tuple[int, ...]],
) -> None:
    source, result = case
    groups = reshape_groups(source, result)
    assert groups is not None
    for group in groups:
        assert prod(source[i] for i in group.source) == prod(result[i] for i in group.result)
    assert [i for g in groups for i in g.source] == [i for i, n in enumerate(source) if n != 1]
    assert [i for g in groups for i in g.result] == [i for i, n in enumerate(result) if n != 1]


def test_empty_tensors_have_no_groups() -> None:
    assert reshape_groups((0, 2), (2, 0)) is None


@given(reshapes(), st.data())
def test_sunk_reshape_is_the_same(
    case: tuple[tuple[int, ...], tuple[int, ...]], data: st.DataObject
) -> None:
    source, result = case
    p = tuple(data.draw(st.permutations(range(len(source)))))
    x = numbered(permuted(source, inverse(p)))
    sunk = sink_through_reshape(x.shape, p, result)
    assume(sunk is not None)
    assert sunk is not None
    through = x.transpose(sunk.first).reshape(sunk.middle).transpose(sunk.last)
    assert np.array_equal(through, x.transpose(p).reshape(result))


def test_scattered_axes_do_not_sink() -> None:
    """Merging the heads of attention: (batch, heads, time, depth) to (batch, time, channels)."""
    assert sink_through_reshape((2, 3, 4, 5), (0, 2, 1, 3), (2, 4, 15)) is None
