from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from uqfc.errors import UqfcError

torch = pytest.importorskip("torch")

from uqfc.qat.bit_widths import BitWidthSearch, size_in_bytes  # noqa: E402 # after the skip
from uqfc.qat.weights import WeightQuantizer  # noqa: E402


def network() -> dict[str, Any]:
    """Weights on three levels, and weights that need many."""
    generator = torch.Generator().manual_seed(3)
    easy = torch.randint(-1, 2, (4, 16), generator=generator) * 0.5
    return {"features.0": easy, "features.1": torch.randn(4, 16, generator=generator)}


def trained(search: BitWidthSearch, weights: dict[str, Any], strength: float) -> BitWidthSearch:
    """Logits learn to keep every layer's output, at a price for what it costs."""
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(64, 16, generator=generator)
    optimizer = torch.optim.Adam(search.logits.parameters(), lr=0.1)
    for _ in range(120):
        optimizer.zero_grad()
        errors = [((x @ (search(name, w) - w).T) ** 2).mean() for name, w in weights.items()]
        (torch.stack(errors).sum() + strength * search.penalty()).backward()
        optimizer.step()
    return search


@pytest.mark.parametrize("gumbel", [False, True])
def test_each_layer_gets_what_it_needs(gumbel: bool) -> None:
    torch.manual_seed(0)
    weights = network()
    search = BitWidthSearch(weights, ("ternary", "int4", "int8"), gumbel=gumbel)
    trained(search, weights, 0.01)
    assert search.choose() == {"features.0": "ternary", "features.1": "int8"}
    assert search.cost_of(search.choose()) == 64 / 4 + 64


def test_a_high_price_makes_all_layers_small_and_none_large() -> None:
    weights = network()
    dtypes = ("ternary", "int4", "int8", "float32")
    small = trained(BitWidthSearch(weights, dtypes), weights, 100.0)
    assert set(small.choose().values()) == {"ternary"}
    hard = {"features.1": weights["features.1"]}
    large = trained(BitWidthSearch(hard, dtypes), hard, 0.0)
    assert large.choose() == {"features.1": "float32"}


def test_costs_given_by_the_user_decide() -> None:
    """Equal errors, so that the latency alone matters: here int8 is the faster one."""
    weights = {"a": torch.zeros(2, 8), "b": torch.zeros(2, 8)}
    costs = {"a": {"int4": 3.0, "int8": 2.0}, "b": {"int4": 1.0, "int8": 5.0}}
    search = trained_on_penalty(BitWidthSearch(weights, costs=costs))
    assert search.choose() == {"a": "int8", "b": "int4"}
    assert search.cost_of(search.choose()) == 3.0


def trained_on_penalty(search: BitWidthSearch) -> BitWidthSearch:
    optimizer = torch.optim.SGD(search.logits.parameters(), lr=1.0)
    for _ in range(20):
        optimizer.zero_grad()
        search.penalty().backward()
        optimizer.step()
    return search


def test_mixture_and_its_gradients_are_the_formula() -> None:
    weight = torch.randn(3, 5, generator=torch.Generator().manual_seed(5)).requires_grad_()
    search = BitWidthSearch({"a": weight}, ("int4", "float32", "ternary"), temperature=2.0)
    logits = torch.tensor([0.3, -1.0, 0.9])
    with torch.no_grad():
        search.logits[0].copy_(logits)
    shares = np.exp(logits.double().numpy() / 2)
    shares /= shares.sum()
    parts = [
        WeightQuantizer(weight, "int4")(weight)[0].detach(),
        weight.detach(),
        WeightQuantizer(weight, "ternary")(weight)[0].detach(),
    ]
    mixed = search("a", weight)
    wanted = sum(p * part.double().numpy() for p, part in zip(shares, parts, strict=True))
    np.testing.assert_allclose(mixed.detach().numpy(), wanted, atol=1e-6)  # float32
    mixed.sum().backward()
    sums = np.array([part.double().sum().item() for part in parts])
    slope = shares * (sums - shares @ sums) / 2  # the softmax's derivative, over the temperature
    np.testing.assert_allclose(search.logits[0].grad.numpy(), slope, atol=1e-5)
    assert weight.grad is not None
    search.eval()
    assert torch.equal(search("a", weight), parts[2])  # the largest logit, quantized to the bit


def test_expected_cost_and_penalty() -> None:
    weights = {"a": torch.zeros(4, 8), "b": torch.zeros(2, 8)}
    search = BitWidthSearch(weights, {"a": ("int8", "int4"), "b": ("float32", "binary")})
    assert search.expected_cost().item() == (32 + 16) / 2 + (64 + 4) / 2
    assert search.penalty().item() == np.float32(58) / np.float32(96)
    assert search.penalty(budget=29).item() == 1.0
    assert search.penalty(budget=100).item() == 0.0
    assert search.choose() == {"a": "int8", "b": "float32"}
    with pytest.raises(UqfcError, match="budget"):
        search.penalty(budget=0)


def test_sizes() -> None:
    weight = torch.zeros(3, 8)
    dtypes = ("float32", "int8", "int4", "ternary", "binary")
    assert [size_in_bytes(weight, d) for d in dtypes] == [96, 24, 12, 6, 6]


def test_a_search_is_restored() -> None:
    weights = network()
    search = BitWidthSearch(weights, ("ternary", "int8"))
    trained(search, weights, 0.01)
    other = BitWidthSearch({k: w * 2 for k, w in weights.items()}, ("ternary", "int8"))
    other.load_state_dict(search.state_dict())
    assert other.choose() == search.choose()
    for name, weight in weights.items():
        assert torch.equal(other(name, weight), search(name, weight))


@pytest.mark.parametrize(
    ("candidates", "costs", "message"),
    [
        (("int5",), None, "'a': weight dtype 'int5'"),
        ({"b": ("int4",)}, None, "'a': no candidate"),
        (("int4", "int8"), {"a": {"int4": 1.0}}, "'a': no cost is given for candidate int8"),
    ],
)
def test_what_is_missing_is_named(candidates: Any, costs: Any, message: str) -> None:
    with pytest.raises(UqfcError, match=message):
        BitWidthSearch({"a": torch.zeros(2, 3)}, candidates, costs=costs)
