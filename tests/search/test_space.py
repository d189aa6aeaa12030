"""Search spaces: patterns, defaults, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.search.instances import space_of
from uqfc.errors import UqfcError
from uqfc.search.space import SearchSpace

AVAILABLE = {
    "layer_0.conv": ("int8", "int4"),
    "layer_1.dw_conv": ("int8", "int4", "ternary", "binary"),
    "head": ("int8", "int4"),
}


def test_the_first_pattern_that_matches_counts_and_other_layers_have_everything() -> None:
    space = SearchSpace.of({"layer_0.*": ["int8"], "layer_*": ["binary", "int4"]}, AVAILABLE)
    assert space.layers == tuple(AVAILABLE)
    assert space.choices == (("int8",), ("int4", "binary"), ("int8", "int4"))
    assert space.combinations == 4
    assert SearchSpace.of(None, AVAILABLE).choices == tuple(AVAILABLE.values())


def test_a_name_with_characters_of_patterns_means_itself() -> None:
    space = SearchSpace.of({"a[0]": ["int4"]}, {"a[0]": ("int8", "int4")})
    assert space.choices == (("int4",),)


@pytest.mark.parametrize(
    ("given_space", "message"),
    [
        ({"layer_0.cnov": ["int8"]}, r"no layer 'layer_0.cnov'; did you mean layer_0.conv"),
        ({"zzzzzz": ["int8"]}, r"no layer 'zzzzzz'; layers: layer_0.conv, layer_1.dw_conv, head"),
        ({"head": []}, r"'head': \[\]; accepted: a list of at least one type"),
        ({"head": "int8"}, r"'head': 'int8'; accepted: a list"),
        ({"head": 8}, r"'head': 8; accepted: a list"),
        ({"head": ["int8", "binary"]}, r"layer 'head': binary is not possible; accepted: int8, i"),
        ({"head": ["int3"]}, r"layer 'head': int3 is not possible; accepted: int8, int4"),
    ],
)
def test_what_is_refused(given_space: Any, message: str) -> None:
    with pytest.raises(UqfcError, match=message):
        SearchSpace.of(given_space, AVAILABLE)


def test_a_network_without_layers_is_refused() -> None:
    with pytest.raises(UqfcError, match="no layer with quantized weights"):
        SearchSpace.of(None, {})


@given(st.lists(st.integers(1, 4), min_size=1, max_size=6), st.integers(0, 2**32))
def test_rows_and_configurations_are_the_same_thing(counts: list[int], seed: int) -> None:
    space = space_of(tuple(counts))
    for row in space.random(np.random.default_rng(seed), 5):
        assert space.row(space.configuration(row)).tolist() == row.tolist()
        near = space.neighbours(row)
        assert len(near) == sum(counts) - len(counts)
        assert ((near != row).sum(axis=1) == 1).all()
    assert len(space.all_rows()) == space.combinations
    assert len({r.tobytes() for r in space.all_rows()}) == space.combinations


def test_uniform_types_where_they_may_be() -> None:
    space = SearchSpace.of(None, AVAILABLE)
    assert list(space.configuration(space.uniform("binary")).values()) == ["int8", "binary", "int8"]


def test_configurations_of_other_spaces_are_refused() -> None:
    space = space_of((2,))
    with pytest.raises(UqfcError, match="layer 'layer_0': binary is not in the search space"):
        space.row({"layer_0": "binary"})
    with pytest.raises(UqfcError, match="must name every layer"):
        space.row({})
