"""Gradients of depthwise convolutions: exactly those of torch on integers of few bits."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from tests.qat.tiny import torch_threads  # noqa: E402 - torch first
from uqfc.dialects.tensors import window_shape  # noqa: E402
from uqfc.qat.deployed import has_kernels  # noqa: E402
from uqfc.qat.kernels import Geometry  # noqa: E402
from uqfc.qat.sums import convolution_backward, depthwise_backward  # noqa: E402

pytestmark = pytest.mark.skipif(not has_kernels(), reason="no target runs on this machine")

PAIR = st.tuples(st.integers(1, 3), st.integers(1, 3))


@st.composite
def layers(draw: st.DrawFn) -> tuple[Geometry, tuple[int, ...]]:
    """A depthwise convolution and the shape [H', W'] of its result; windows reach outside."""
    channels = draw(st.sampled_from([2, 3, 16, 33, 48]))
    kernel = draw(st.tuples(st.sampled_from([1, 2, 3, 5]), st.sampled_from([1, 3, 5])))
    strides, dilations = draw(PAIR), draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    padding = draw(st.tuples(*[st.integers(0, 2)] * 4))
    least = [
        max(1, (k - 1) * d + 1 - sum(padding[axis::2]))
        for axis, (k, d) in enumerate(zip(kernel, dilations, strict=True))
    ]
    size = [draw(st.integers(each, each + 8)) for each in least]
    weight = (channels, *kernel, 1)
    geometry = Geometry(
        (1, *size, channels), weight, "u4", 0, strides, padding, dilations, channels
    )
    return geometry, window_shape((size[0], size[1]), kernel, strides, padding, dilations)


@settings(max_examples=80)
@given(layers(), st.integers(1, 2))
def test_sums_of_integers_are_exact(layer: tuple[Geometry, tuple[int, ...]], threads: int) -> None:
    """Fewer than 2**10 products of integers up to 7 are exact in float32, in any order."""
    geometry, out = layer
    channels = geometry.groups
    generator = torch.Generator().manual_seed(channels)
    x, weight, g = (
        torch.randint(-7, 8, shape, generator=generator).float()
        for shape in ((2, *geometry.x[1:]), geometry.weight, (2, *out, channels))
    )
    with torch_threads(threads):
        found = depthwise_backward(g, x, weight, geometry, (True, True, False))
    wanted = convolution_backward(
        g.double(), x.double(), weight.double(), geometry, (True, True, False)
    )
    for ours, theirs in zip(found, wanted, strict=True):
        assert theirs is not None
        assert torch.equal(ours.double(), theirs)
