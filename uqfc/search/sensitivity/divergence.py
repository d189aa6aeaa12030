"""How far apart two networks' outputs are, sample by sample. In float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from uqfc.dialects.tensors import Array
from uqfc.errors import UqfcError
from uqfc.numerics import F64

Distance: TypeAlias = Callable[[Sequence[Array], Sequence[Array]], F64]
"""From two lists of outputs, ``[samples, …]`` each, to one number per sample."""


def log_softmax(logits: Array) -> F64:
    """Over the last axis."""
    z = np.asarray(logits, np.float64)
    z = z - z.max(axis=-1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=-1, keepdims=True))


def kl_divergence(reference: Sequence[Array], outputs: Sequence[Array]) -> F64:
    """``KL(softmax(reference) ‖ softmax(outputs))`` in nats of each sample, [samples].

    The softmax is over the last axis; other axes are averaged, outputs are added up. UqfcError for
    outputs of one value each, whose softmax is constant.
    """
    total = np.zeros(len(reference[0]))
    for p, q in zip(reference, outputs, strict=True):
        if p.shape[-1] < 2:
            raise UqfcError(
                f"sensitivity: an output {list(p.shape[1:])} has one value in its last axis, and "
                "so no distribution; accepted: method 'mse'"
            )
        log_p, log_q = log_softmax(p), log_softmax(q)
        divergence = (np.exp(log_p) * (log_p - log_q)).sum(axis=-1)
        total += divergence.reshape(len(p), -1).mean(axis=1)
    return total


def squared_error(reference: Sequence[Array], outputs: Sequence[Array]) -> F64:
    """Mean over the elements of an output, added over the outputs, of each sample: [samples]."""
    total = np.zeros(len(reference[0]))
    for y, z in zip(reference, outputs, strict=True):
        difference = np.asarray(z, np.float64) - np.asarray(y, np.float64)
        total += np.square(difference).reshape(len(y), -1).mean(axis=1)
    return total
