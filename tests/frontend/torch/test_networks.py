"""Networks of random blocks: the import computes what torch computes, to the bit where float32 is
exact and within a derived bound where it is not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.frontend.torch.exported import expected, export, normal, run

torch = pytest.importorskip("torch")

from tests.frontend.torch.blocks import networks  # noqa: E402 - needs torch
from uqfc.frontend.torch import import_torch  # noqa: E402
from uqfc.pipeline import graph_passes, run_passes  # noqa: E402


@settings(max_examples=20)
@given(networks())
def test_networks_of_exact_arithmetic_have_the_bits_of_torch(case: tuple[Any, Any]) -> None:
    """Fused, too: folding a batch normalisation multiplies by powers of two here."""
    module, x = case
    network = import_torch(export(module, [x]))
    (theirs,) = expected(module, [x])
    np.testing.assert_array_equal(run(network.module, [x])[0], theirs)
    run_passes(network.module, graph_passes())
    np.testing.assert_array_equal(run(network.module, [x])[0], theirs)


class Transformer(torch.nn.Module):
    """Attention between 4 features in 2 heads, and two layers with GELU between them."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.norm = torch.nn.LayerNorm(4)
        self.attention = torch.nn.MultiheadAttention(4, 2, batch_first=True)
        self.up = torch.nn.Linear(4, 8)
        self.down = torch.nn.Linear(8, 4)
        generator = torch.Generator().manual_seed(seed)
        for layer in (self.attention, self.up, self.down):
            for parameter in layer.parameters():
                limit = 1 / 8 if parameter.ndim == 2 else 1 / 2
                torch.nn.init.uniform_(parameter, -limit, limit, generator)

    def forward(self, x: Any) -> Any:
        y = self.norm(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return x + self.down(torch.nn.functional.gelu(self.up(x)))


@settings(max_examples=10)
@given(st.integers(0, 2**31), st.integers(1, 4), st.integers(1, 2))
def test_a_transformer_is_near(seed: int, tokens: int, batch: int) -> None:
    """Within ``2**-15``. To first order in ``u = 2**-24``, for each of the two computations:

    Tokens are permutations of 0, 1, 2, 3, so that normalisation (by 1.25) takes exact values to at
    most 1.35, wrong by at most 8 u. A layer of 4 weights below 1/8 halves errors and adds 8 u: q, k
    and v are at most 1.2, wrong by at most 12 u. Scores are sums of two products over sqrt(2),
    wrong by at most 50 u; softmax doubles that as a relative error and adds 16 u, and its weights
    sum to 1: attention is wrong by at most 1.2 * 116 u + 20 u < 160 u. The projection halves it,
    and the sum of at most 4.1 is wrong by at most 100 u. The next layer makes 60 u of it, GELU (of
    slope at most 1.13, within 20 u) 90 u, 8 weights below 1/8 at most 120 u, and the last sum of
    at most 8 is wrong by at most 100 u + 120 u + 8 u: twice that is less than ``2**9 u``.
    """
    shuffle = torch.Generator().manual_seed(seed + 1)
    rows = [torch.randperm(4, generator=shuffle) for _ in range(tokens * batch)]
    x = torch.stack(rows).reshape(batch, tokens, 4).float()
    module = Transformer(seed)
    ours = run(import_torch(export(module, [x])).module, [x])[0]
    assert float(np.abs(ours - expected(module, [x])[0]).max()) <= 2.0**-15


def test_networks_of_torchvision_import() -> None:
    """As torchvision defines them; 224 pixels would only take time."""
    models = pytest.importorskip("tests.models.torchvision_models").tv
    names = ("mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large", "resnet18")
    for name in (*names, "efficientnet_b0"):
        module = getattr(models, name)()
        network = import_torch(export(module, [normal(0, 1, 3, 32, 32)]), name)
        count = sum(isinstance(m, torch.nn.Conv2d | torch.nn.Linear) for m in module.modules())
        assert (len(network.layers), network.parameters) == (count, {}), name
