"""Gradients of a layer's sums are those of the float layer at the real values."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from tests.qat.geometries import geometries, integers, operands_of  # noqa: E402 - torch first
from uqfc.qat.kernels import Geometry  # noqa: E402
from uqfc.qat.sums import FloatSums, LayerSums  # noqa: E402


def float_layer(x: Any, weight: Any, bias: Any, g: Geometry) -> Any:
    """In torch's own ops; x [N, H, W, C], weight [O, kh, kw, C / groups]."""
    if weight.ndim == 2:
        return torch.nn.functional.linear(x, weight, bias)
    top, left, bottom, right = g.padding
    image = torch.nn.functional.pad(x.permute(0, 3, 1, 2), (left, right, top, bottom))
    kernel = weight.permute(0, 3, 1, 2)
    y = torch.nn.functional.conv2d(image, kernel, bias, g.strides, 0, g.dilations, g.groups)
    return y.permute(0, 2, 3, 1)


def small(seed: int, *shape: int) -> Any:
    """Integers of at most 7 as float32, that need a gradient."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-7, 8, shape, generator=generator).float().requires_grad_()


@settings(max_examples=60)
@given(geometries(), st.integers(0, 999), st.sampled_from(["none", "one", "channels"]))
def test_gradients_are_those_of_the_float_layer(g: Geometry, seed: int, units: str) -> None:
    """Exactly: sums of fewer than 2**16 products of integers, times powers of two, in any order."""
    given_ = integers(g, operands_of(g, 2, seed))
    channels = g.weight[0]
    unit = {
        "none": None,
        "one": torch.tensor(0.25),
        "channels": 2.0 ** (torch.arange(channels) % 3),
    }[units]
    x, weight = small(seed, 2, *g.x[1:]), small(seed + 1, *g.weight)
    bias = small(seed + 2, channels) if seed % 2 else None
    y = LayerSums.apply(x, weight, bias, unit, given_, FloatSums())
    assert torch.equal(y, FloatSums()(given_))
    gradient = small(seed + 3, *y.shape).detach()
    leaves = [t for t in (x, weight, bias) if t is not None]
    found = torch.autograd.grad(y, leaves, gradient)
    doubles = [t.detach().double().requires_grad_() for t in leaves]
    wanted = float_layer(doubles[0], doubles[1], doubles[2] if len(doubles) > 2 else None, g)
    divided = wanted if unit is None else wanted / unit.double()
    exact = torch.autograd.grad(divided, doubles, gradient.double())
    for ours, theirs in zip(found, exact, strict=True):
        assert torch.equal(ours.double(), theirs)


def test_what_needs_no_gradient_gets_none() -> None:
    g = Geometry((1, 4, 4, 3), (5, 3, 3, 3), "s8", 3, padding=(1, 1, 1, 1))
    given_ = integers(g, operands_of(g, 2, 1))
    x, weight = small(1, 2, 4, 4, 3).detach(), small(2, 5, 3, 3, 3)
    y = LayerSums.apply(x, weight, None, None, given_, FloatSums())
    y.sum().backward()
    assert x.grad is None
    assert weight.grad is not None
