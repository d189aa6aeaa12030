"""A policy over the choices of layers, that learns by the cross-entropy method.

The probability of a choice of a layer is a softmax over ``bias[layer, choice] + features[layer,
choice] @ weights``: what is learned of one layer by ``bias``, of all layers by ``weights``.
Learning is ascent of the mean logarithm of the probability of elite configurations (de Boer et al.,
A Tutorial on the Cross-Entropy Method), by its exact gradient.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from uqfc.search.costs import F64, CostModel
from uqfc.search.space import Rows

FLOOR = 0.02
"""Of the probabilities, which is spread evenly: nothing is ever impossible."""
RATE = 0.1
"""Of a step of ascent, of which each call of ``learn`` takes one."""


class Policy:
    """``features``: [layers, most choices, n]; what is beyond a layer's choices does not matter."""

    def __init__(self, counts: Sequence[int], features: F64 | None = None) -> None:
        self.counts = tuple(counts)
        shape = (len(self.counts), max(self.counts))
        self.valid = np.arange(shape[1])[None] < np.array(self.counts)[:, None]
        self.features = np.zeros((*shape, 0)) if features is None else features
        self.bias = np.zeros(shape)
        self.weights = np.zeros(self.features.shape[-1])
        self._probabilities = self._softmax()

    @property
    def probabilities(self) -> F64:
        """[layers, most choices]; 0 beyond a layer's choices."""
        return self._probabilities

    def _softmax(self) -> F64:
        logits = np.where(self.valid, self.bias + self.features @ self.weights, -np.inf)
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        even = self.valid / self.valid.sum(axis=1, keepdims=True)
        return (1 - FLOOR) * odds / odds.sum(axis=1, keepdims=True) + FLOOR * even

    def learn(self, rows: Rows, rate: float = RATE) -> None:
        """Make these rows [n, layers] more probable."""
        choices = np.arange(self.valid.shape[1], dtype=np.uint8)
        wanted = (rows[:, :, None] == choices).mean(axis=0)
        error = wanted - self._probabilities
        self.bias += rate * error
        self.weights += rate * np.einsum("lc,lcf->f", error, self.features) / len(self.counts)
        self._probabilities = self._softmax()


def cost_features(costs: Sequence[CostModel]) -> F64:
    """[layers, most choices, costs]: each layer's additive terms less their least, as shares of the
    largest such difference of any layer."""
    counts = costs[0].counts
    found = np.zeros((len(counts), max(counts), len(costs)))
    for place, cost in enumerate(costs):
        for layer, terms in enumerate(cost.unary):
            found[layer, : len(terms), place] = terms - terms.min()
        largest = found[:, :, place].max()
        if largest > 0:
            found[:, :, place] /= largest
    return found
