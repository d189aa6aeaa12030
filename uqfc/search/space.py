"""What is searched: for every layer the weight types that it may have.

A configuration, ``{layer: type}``, is searched as a *row*, uint8 [layers]: for each layer the index
of its type among the layer's choices, of which the widest comes first.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from uqfc.errors import UqfcError
from uqfc.layer_names import matches

Row: TypeAlias = NDArray[np.uint8]
Rows: TypeAlias = NDArray[np.uint8]
"""Configurations, uint8 [n, layers]."""


@dataclass(frozen=True)
class SearchSpace:
    """``choices[i]``: the types that ``layers[i]`` may have, widest first, at least one."""

    layers: tuple[str, ...]
    choices: tuple[tuple[str, ...], ...]

    @staticmethod
    def of(
        given: Mapping[str, Sequence[str]] | None, available: Mapping[str, Sequence[str]]
    ) -> SearchSpace:
        """``given``: types by pattern (``fnmatch``) of layer names, of which the first that matches
        counts; layers without one may have all that is ``available``, by layer, widest first.

        Raises UqfcError for a pattern without a layer, and for types that a layer cannot have.
        """
        if not available:
            raise UqfcError("search space: the network has no layer with quantized weights")
        patterns = checked_patterns(given or {}, available)
        choices: list[tuple[str, ...]] = []
        for layer, had in available.items():
            wanted = next((w for p, w in patterns.items() if matches(layer, p)), tuple(had))
            refused = [dtype for dtype in wanted if dtype not in had]
            if refused:
                raise UqfcError(
                    f"search space: layer '{layer}': {', '.join(refused)} is not possible; "
                    f"accepted: {', '.join(had)}"
                )
            choices.append(tuple(dtype for dtype in had if dtype in wanted))
        return SearchSpace(tuple(available), tuple(choices))

    @property
    def counts(self) -> tuple[int, ...]:
        """How many choices each layer has."""
        return tuple(len(each) for each in self.choices)

    @property
    def combinations(self) -> int:
        """How many configurations there are."""
        return math.prod(self.counts)

    @property
    def dtypes(self) -> tuple[str, ...]:
        """All types that some layer may have, in the order in which layers name them."""
        return tuple(dict.fromkeys(dtype for each in self.choices for dtype in each))

    def configuration(self, row: Row) -> dict[str, str]:
        """Types by layer of a row."""
        pairs = zip(self.layers, self.choices, row, strict=True)
        return {layer: choices[index] for layer, choices, index in pairs}

    def row(self, configuration: Mapping[str, str]) -> Row:
        """The row of a complete configuration. UqfcError where it is not one of this space."""
        if set(configuration) != set(self.layers):
            raise UqfcError("a configuration must name every layer of the search space, no other")
        indices: list[int] = []
        for layer, choices in zip(self.layers, self.choices, strict=True):
            if configuration[layer] not in choices:
                raise UqfcError(
                    f"layer '{layer}': {configuration[layer]} is not in the search space; "
                    f"accepted: {', '.join(choices)}"
                )
            indices.append(choices.index(configuration[layer]))
        return np.array(indices, np.uint8)

    def uniform(self, dtype: str) -> Row:
        """``dtype`` wherever it may be, elsewhere the widest choice."""
        return np.array(
            [choices.index(dtype) if dtype in choices else 0 for choices in self.choices], np.uint8
        )

    def random(self, generator: np.random.Generator, count: int) -> Rows:
        """Rows drawn evenly."""
        return generator.integers(0, self.counts, (count, len(self.layers)), np.uint8)

    def all_rows(self) -> Rows:
        """Every configuration, in order. For small spaces."""
        grid = np.indices(self.counts, np.uint8)
        return grid.reshape(len(self.layers), -1).T.copy()

    def neighbours(self, row: Row) -> Rows:
        """All rows that differ in the type of one layer."""
        found: list[Row] = []
        for layer, count in enumerate(self.counts):
            for choice in range(count):
                if choice != row[layer]:
                    other = row.copy()
                    other[layer] = choice
                    found.append(other)
        return stacked(found, len(self.layers))


def stacked(rows: Iterable[Row], layers: int) -> Rows:
    """Rows as one array, [0, layers] where there are none."""
    return np.array(list(rows), np.uint8).reshape(-1, layers)


def checked_patterns(
    given: Mapping[str, Sequence[str]], layers: Iterable[str]
) -> dict[str, tuple[str, ...]]:
    """Types by pattern. UqfcError for what is malformed, or matches no layer."""
    names = list(layers)
    checked: dict[str, tuple[str, ...]] = {}
    for pattern, types in given.items():
        if not any(matches(name, pattern) for name in names):
            raise UqfcError(f"search space: no layer '{pattern}'; {nearest(pattern, names)}")
        values = cast("Any", types)
        if isinstance(values, str) or not isinstance(values, Sequence) or not values:
            raise UqfcError(
                f"search space: '{pattern}': {values!r}; accepted: a list of at least one type, "
                "e.g. ['int8', 'int4']"
            )
        checked[pattern] = tuple(str(each) for each in cast("Sequence[Any]", values))
    return checked


def nearest(name: str, known: Sequence[str]) -> str:
    """A hint for a name that there is not."""
    close = difflib.get_close_matches(name, known, 3, 0.5)
    if close:
        return f"did you mean {' or '.join(close)}?"
    shown = ", ".join(known[:10])
    return f"layers: {shown}{', …' if len(known) > 10 else ''}"
