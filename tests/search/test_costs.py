"""Sums of costs: their definition, and that batches do not change a bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.search.instances import network_like, space_of
from uqfc.errors import UqfcError
from uqfc.search.costs import BLOCK, CostModel


@given(st.integers(0, 1000))
@settings(max_examples=20)
def test_a_batch_has_the_bits_of_its_rows(seed: int) -> None:
    cost = network_like(seed, layers=7).loss
    rows = space_of(cost.counts).random(np.random.default_rng(seed), 50)
    expected: list[float] = []
    for row in rows:
        total: Any = cost.constant
        for terms, choice in zip(cost.unary, row, strict=True):
            total += terms[choice]
        for pair in cost.pairs:
            total += pair.table[row[pair.first], row[pair.second]]
        expected.append(float(total))
    assert cost(rows).tolist() == expected
    assert [cost.one(row) for row in rows] == expected


def test_more_rows_than_a_block() -> None:
    cost = network_like(1, layers=3).loss
    rows = space_of(cost.counts).random(np.random.default_rng(0), BLOCK + 5)
    assert cost(rows)[-5:].tolist() == cost(rows[-5:]).tolist()


def test_interactions_are_given_by_names_in_any_order() -> None:
    space = space_of((2, 3))
    terms = {
        (layer, d): 1.0 for layer, c in zip(space.layers, space.choices, strict=True) for d in c
    }
    cost = CostModel.of(
        space,
        terms,
        {
            ("layer_1", "ternary", "layer_0", "int4"): 5.0,
            ("layer_0", "int4", "layer_1", "int4"): 7.0,
            ("layer_0", "binary", "layer_1", "int4"): 9.0,  # layer_0 has no binary
            ("layer_0", "int4", "layer_9", "int4"): 9.0,
        },
    )
    assert cost(space.all_rows()).tolist() == [2.0, 2.0, 2.0, 2.0, 9.0, 7.0]
    assert cost.without_pairs().plus(1.0)(space.all_rows()).tolist() == [3.0] * 6


def test_figures_that_are_missing_or_not_finite_are_named() -> None:
    space = space_of((2,))
    with pytest.raises(UqfcError, match="layer 'layer_0': no figure for int4"):
        CostModel.of(space, {("layer_0", "int8"): 0.0, ("layer_0", "int4"): float("nan")})
    terms = {("layer_0", "int8"): 0.0, ("layer_0", "int4"): 1.0}
    with pytest.raises(UqfcError, match="an interaction with itself"):
        CostModel.of(space, terms, {("layer_0", "int8", "layer_0", "int4"): 1.0})
