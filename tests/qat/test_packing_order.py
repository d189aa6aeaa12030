"""Packing by a gather gives the bytes of packing."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")

from uqfc.packing import I32, RANGES, U8, DepthwiseLayout, PanelLayout, Storage
from uqfc.qat.packing_order import Pack, PackingOrder

STORAGES: tuple[Storage, ...] = ("s8", "u4", "s16")


@settings(max_examples=60)
@given(
    st.sampled_from(STORAGES),
    st.sampled_from([1, 5, 16, 33, 70]),
    st.sampled_from([1, 4, 9, 40]),
    st.sampled_from([16, 32]),
    st.integers(0, 999),
)
def test_panels(storage: Storage, n: int, k: int, panel: int, seed: int) -> None:
    check(PanelLayout(n, k, storage, panel).pack, (n, k), storage, seed)


@settings(max_examples=30)
@given(st.sampled_from(STORAGES), st.sampled_from([3, 16, 33]), st.integers(0, 999))
def test_depthwise(storage: Storage, channels: int, seed: int) -> None:
    layout = DepthwiseLayout(channels, (3, 5), storage)
    check(layout.pack, (channels, 3, 5), storage, seed)


def check(pack: Pack, shape: tuple[int, ...], storage: Storage, seed: int) -> None:
    rng = np.random.default_rng(seed)
    low, high = RANGES[storage]
    weight = rng.integers(low, high + 1, shape).astype(np.int32)
    zeros = rng.integers(0, 16, shape[0]).astype(np.int32)
    if storage != "u4":
        zeros[:] = 0
    order = PackingOrder(pack, shape, storage)
    found: U8 = order.pack(weight, zeros)
    wanted: I32 | U8 = pack(weight, zeros)
    assert prod(shape) == weight.size
    assert np.array_equal(found, wanted)
