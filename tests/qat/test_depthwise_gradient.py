"""Gradients of depthwise convolutions: exactly those of torch on integers of few bits."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from uqfc.qat.deployed import has_kernels  # noqa: E402 - torch first
from uqfc.qat.kernels import Geometry  # noqa: E402
from uqfc.qat.sums import convolution_backward, depthwise_backward  # noqa: E402

pytestmark = pytest.mark.skipif(not has_kernels(), reason="no target runs on this machine")

SIZE = st.integers(1, 9)


@settings(max_examples=80)
@given(
    st.sampled_from([2, 3, 16, 33, 48]),
    st.tuples(SIZE, SIZE),
    st.tuples(st.sampled_from([1, 2, 3, 5]), st.sampled_from([1, 3, 5])),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.tuples(*[st.integers(0, 2)] * 4),
    st.tuples(st.integers(1, 2), st.integers(1, 2)),
    st.integers(1, 2),
)
def test_sums_of_integers_are_exact(
    channels: int,
    size: tuple[int, int],
    kernel: tuple[int, int],
    strides: tuple[int, int],
    padding: tuple[int, int, int, int],
    dilations: tuple[int, int],
    threads: int,
) -> None:
    """Fewer than 2**10 products of integers up to 7 are exact in float32, in any order."""
    room = [
        size[i] + padding[i] + padding[i + 2] - (kernel[i] - 1) * dilations[i] - 1 for i in (0, 1)
    ]
    if min(room) < 0:
        return
    out = [room[i] // strides[i] + 1 for i in (0, 1)]
    generator = torch.Generator().manual_seed(channels)
    x, weight, g = (
        torch.randint(-7, 8, shape, generator=generator).float()
        for shape in ((2, *size, channels), (channels, *kernel, 1), (2, *out, channels))
    )
    geometry = Geometry(
        (1, *size, channels), tuple(weight.shape), "u4", 0, strides, padding, dilations, channels
    )
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        found = depthwise_backward(g, x, weight, geometry, (True, True, False))
    finally:
        torch.set_num_threads(before)
    wanted = convolution_backward(
        g.double(), x.double(), weight.double(), geometry, (True, True, False)
    )
    for ours, theirs in zip(found, wanted, strict=True):
        assert theirs is not None
        assert torch.equal(ours.double(), theirs)
