"""Costs that are sums: of a constant, a term of each layer's type, and terms of pairs of layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from uqfc.errors import UqfcError
from uqfc.search.space import Row, Rows, SearchSpace

F64: TypeAlias = NDArray[np.float64]

BLOCK = 1 << 14
"""Rows that are evaluated at a time: their columns and sums stay in the cache."""


@dataclass(frozen=True)
class Pair:
    """``table[a, b]``: what it adds that ``first`` has choice ``a`` and ``second`` choice ``b``.

    Layers by index, ``first < second``.
    """

    first: int
    second: int
    table: F64


@dataclass(frozen=True)
class CostModel:
    """``constant + sum(unary[i][row[i]]) + sum(pair.table[row[pair.first], row[pair.second]])``."""

    unary: tuple[F64, ...]
    pairs: tuple[Pair, ...] = ()
    constant: float = 0.0

    @staticmethod
    def of(
        space: SearchSpace,
        terms: Mapping[tuple[str, str], float],
        interactions: Mapping[tuple[str, str, str, str], float] | None = None,
        constant: float = 0.0,
    ) -> CostModel:
        """From terms by (layer, type), and by (layer, type, layer, type) what a pair adds.

        Raises UqfcError for a choice of the space that has no finite term.
        """
        unary: list[F64] = []
        for layer, choices in zip(space.layers, space.choices, strict=True):
            missing = [d for d in choices if not np.isfinite(terms.get((layer, d), np.nan))]
            if missing:
                raise UqfcError(f"layer '{layer}': no figure for {', '.join(missing)}")
            unary.append(np.array([terms[layer, dtype] for dtype in choices], np.float64))
        return CostModel(tuple(unary), pairs_of(space, interactions or {}), constant)

    @property
    def counts(self) -> tuple[int, ...]:
        """How many choices each layer has."""
        return tuple(len(each) for each in self.unary)

    def __call__(self, rows: Rows) -> F64:
        """Of each row of uint8 [n, layers]: float64 [n]. The same bits in any batch: terms are
        added in one order, layers first."""
        totals = np.full(len(rows), self.constant)
        for start in range(0, len(rows), BLOCK):
            block = totals[start : start + BLOCK]
            columns = rows[start : start + BLOCK].T.astype(np.intp, order="C")
            for column, terms in zip(columns, self.unary, strict=True):
                block += terms[column]
            for pair in self.pairs:
                place = columns[pair.first] * pair.table.shape[1]
                place += columns[pair.second]
                block += pair.table.ravel()[place]
        return totals

    def one(self, row: Row) -> float:
        """Of a single row."""
        return float(self(row[None])[0])

    def without_pairs(self) -> CostModel:
        """The additive part."""
        return replace(self, pairs=())

    def plus(self, constant: float) -> CostModel:
        """With something added to every configuration."""
        return replace(self, constant=self.constant + constant)


def pairs_of(
    space: SearchSpace, interactions: Mapping[tuple[str, str, str, str], float]
) -> tuple[Pair, ...]:
    """A table for each pair of layers, in order; types outside of the space are left out."""
    tables: dict[tuple[int, int], F64] = {}
    index = {layer: i for i, layer in enumerate(space.layers)}
    for (layer_a, dtype_a, layer_b, dtype_b), value in interactions.items():
        ends: Sequence[tuple[int, str]] = sorted(
            (index[layer], dtype)
            for layer, dtype in ((layer_a, dtype_a), (layer_b, dtype_b))
            if layer in index and dtype in space.choices[index[layer]]
        )
        if len(ends) < 2:
            continue
        (first, one), (second, other) = ends
        if first == second:
            raise UqfcError(f"layer '{layer_a}': an interaction with itself")
        if not np.isfinite(value):
            raise UqfcError(f"layers '{layer_a}' and '{layer_b}': their interaction is not finite")
        shape = (len(space.choices[first]), len(space.choices[second]))
        table = tables.setdefault((first, second), np.zeros(shape))
        table[space.choices[first].index(one), space.choices[second].index(other)] += value
    return tuple(Pair(*ends, table) for ends, table in sorted(tables.items()))
