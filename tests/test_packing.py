"""Packed weights: ``unpack`` inverts ``pack``, and bytes are where the kernels expect them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from uqfc.packing import NARROW_BITS, RANGES, DepthwiseLayout, PanelLayout, Storage, round_up

SIZES = st.sampled_from([1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 48, 49, 64, 65])


def random_weights(
    shape: tuple[int, ...], storage: Storage, seed: int
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Weights over the whole range of ``storage``, and zero points where it has them."""
    rng = np.random.default_rng(seed)
    low, high = RANGES[storage]
    weights = rng.integers(low, high, shape, np.int32, endpoint=True)
    zero_points = rng.integers(0, high + 1 if storage in NARROW_BITS else 1, shape[0], np.int32)
    return weights, zero_points


@given(
    n=SIZES,
    k=SIZES,
    storage=st.sampled_from(["s8", "u4", "u2", "s16"]),
    panel=st.sampled_from([16, 32]),
    groups=st.integers(1, 3),
    segments=st.integers(1, 3),
    unit=st.sampled_from([4, 64]),
    seed=st.integers(0, 2**32 - 1),
)
def test_unpack_inverts_pack(
    n: int,
    k: int,
    storage: Storage,
    panel: int,
    groups: int,
    segments: int,
    unit: int,
    seed: int,
) -> None:
    layout = PanelLayout(n, segments * k, storage, panel, groups, segments, unit)
    weights, zero_points = random_weights((groups * n, segments * k), storage, seed)
    packed = layout.pack(weights, zero_points)
    assert packed.shape == (layout.bytes,)
    unpacked, unpacked_zero_points = layout.unpack(packed)
    np.testing.assert_array_equal(unpacked, weights)
    np.testing.assert_array_equal(unpacked_zero_points, zero_points)


@given(
    channels=SIZES,
    kernel=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    storage=st.sampled_from(["s8", "u4", "u2", "s16"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_unpack_inverts_pack_of_depthwise(
    channels: int, kernel: tuple[int, int], storage: Storage, seed: int
) -> None:
    layout = DepthwiseLayout(channels, kernel, storage)
    weights, zero_points = random_weights((channels, *kernel), storage, seed)
    packed = layout.pack(weights, zero_points)
    assert packed.shape == (layout.bytes,)
    unpacked, unpacked_zero_points = layout.unpack(packed)
    np.testing.assert_array_equal(unpacked, weights)
    np.testing.assert_array_equal(unpacked_zero_points, zero_points)


def test_s8_bytes() -> None:
    layout = PanelLayout(17, 5, "s8", 32)
    weights = np.arange(17 * 5, dtype=np.int32).reshape(17, 5)
    words = layout.pack(weights).reshape(2, 32, 4)
    np.testing.assert_array_equal(words[0, 3], weights[3, :4])
    np.testing.assert_array_equal(words[1, 16], [weights[16, 4], 0, 0, 0])
    assert not words[:, 17:].any()


def test_u4_padding_is_the_zero_point() -> None:
    layout = PanelLayout(1, 5, "u4", 16)
    packed = layout.pack(np.array([[1, 2, 3, 4, 5]], np.int32), np.array([9], np.int32))
    np.testing.assert_array_equal(packed[:4], [0x51, 0x92, 0x93, 0x94])
    assert not packed[4:64].any()
    assert packed[64] == 9
    assert packed.shape == (128,)
    assert not packed[65:].any()


def test_u2_bytes_hold_four_k() -> None:
    layout = PanelLayout(1, 18, "u2", 16)
    weights = np.arange(18, dtype=np.int32)[None] // 4 % 4
    packed = layout.pack(weights, np.array([1], np.int32))
    np.testing.assert_array_equal(packed[:4], [0b11100100] * 4)
    np.testing.assert_array_equal(packed[64:68], [0b01010100] * 2 + [0b01010101] * 2)
    assert packed[128] == 1
    assert packed.shape == (192,)


def test_s16_words_hold_alternate_k() -> None:
    layout = PanelLayout(2, 4, "s16", 16)
    packed = layout.pack(np.array([[1, 2, 3, 4], [-5, 6, 7, 300]], np.int32)).view("<i2")
    words = packed.reshape(1, 2, 16, 2)
    np.testing.assert_array_equal(words[0, :, 0], [[1, 3], [2, 4]])
    np.testing.assert_array_equal(words[0, :, 1], [[-5, 7], [6, 300]])


def test_last_panel_is_narrower() -> None:
    assert list(PanelLayout(65, 1, "s8", 32).panels()) == [(0, 32), (32, 32), (64, 16)]
    assert list(PanelLayout(50, 1, "s8", 32).panels()) == [(0, 32), (32, 32)]


@pytest.mark.parametrize(
    ("storage", "weight", "zero_point"),
    [
        ("s8", 128, 0),
        ("s8", 0, 1),
        ("u4", 16, 0),
        ("u4", -1, 0),
        ("u4", 0, 16),
        ("u2", 4, 0),
        ("u2", 0, 4),
        ("s16", 40000, 0),
    ],
)
def test_out_of_range_is_refused(storage: Storage, weight: int, zero_point: int) -> None:
    layout = PanelLayout(1, 1, storage, 16)
    with pytest.raises(ValueError, match="must be in"):
        layout.pack(np.array([[weight]], np.int32), np.array([zero_point], np.int32))


def test_wrong_shapes_are_refused() -> None:
    layout = PanelLayout(2, 3, "s8", 16)
    with pytest.raises(ValueError, match="expected"):
        layout.pack(np.zeros((3, 2), np.int32))
    with pytest.raises(ValueError, match="expected uint8"):
        layout.unpack(np.zeros(3, np.uint8))
    with pytest.raises(ValueError, match="expected"):
        DepthwiseLayout(2, (3, 3), "s8").pack(np.zeros((2, 9), np.int32))


def test_padding() -> None:
    assert [round_up(v, 4) for v in (0, 1, 4, 5)] == [0, 4, 4, 8]
    padded = PanelLayout(17, 1, "s8", 32, groups=2).pad(np.arange(34, dtype=np.int32))
    np.testing.assert_array_equal(padded.reshape(2, 32)[:, :17], np.arange(34).reshape(2, 17))
    assert not padded.reshape(2, 32)[:, 17:].any()
