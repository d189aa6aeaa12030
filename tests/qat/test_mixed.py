"""Weight types of layers, learned by ``finetune``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402 # after the skip

import uqfc  # noqa: E402
from tests.qat.tiny import captured, images, loader, model, network, same_state  # noqa: E402
from uqfc.errors import UqfcError  # noqa: E402
from uqfc.qat import QatModel  # noqa: E402
from uqfc.qat.bit_widths import BitWidthSearch  # noqa: E402
from uqfc.qat.mixed import within_budget  # noqa: E402

QUICK: dict[str, Any] = {"epochs": 1, "learning_rate": 0.01, "progress": False}
SIZES = {"0": 4 * 9, "3": 6 * 4 * 9, "8": 3 * 6}
"""How many weights the layers of the small network have."""


def bytes_of(choice: dict[str, str]) -> float:
    return sum(SIZES[name] * (1 if dtype == "int8" else 0.5) for name, dtype in choice.items())


class Branches(nn.Module):
    """Two layers of 16 × 16 weights: one has levels of four bits, one needs more."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.coarse, self.fine = nn.Linear(16, 16), nn.Linear(16, 16)
        with torch.no_grad():
            levels = torch.randint(0, 16, (16, 16), generator=generator)
            levels[:, 0], levels[:, 1] = 0, 15
            self.coarse.weight.copy_((levels - 7) * 0.05)
            noise = torch.randn(16, 16, generator=generator)
            noise[:, 0] = 8.0  # all other weights share few levels of a coarse scale
            self.fine.weight.copy_(noise)

    def forward(self, x: Tensor) -> Tensor:
        return self.coarse(x) + self.fine(x)


def test_precision_goes_where_it_is_needed() -> None:
    """There are bytes for one layer of 8 bits; to tell the layers apart is up to the loss."""
    module = Branches()
    x = torch.randn(64, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        y = module(x)
    qat_model = uqfc.prepare_qat(module, kernels=False, config={"layers": {"*": {}}})
    result = uqfc.finetune(
        qat_model,
        [(x, y)] * 8,
        1,
        loss=nn.functional.mse_loss,
        learning_rate=1e-4,
        bit_widths={"budget_bytes": 256 + 128, "epochs": 4},
        progress=False,
    )
    assert result.bit_widths == {"coarse": "int4", "fine": "int8"}
    assert {name: each.chosen for name, each in qat_model.decisions.items()} == result.bit_widths


@pytest.mark.parametrize("share", [0.5, 0.7, 0.95, 1.0])
def test_the_budget_is_kept(share: float) -> None:
    budget = share * sum(SIZES.values())
    qat_model = captured()
    result = uqfc.finetune(qat_model, loader(), bit_widths={"budget_bytes": budget}, **QUICK)
    choice = dict(result.bit_widths)
    assert choice.keys() == SIZES.keys()
    assert bytes_of(choice) <= budget
    assert {name: each.chosen for name, each in qat_model.decisions.items()} == choice
    if share == 0.5:
        assert set(choice.values()) == {"int4"}


def test_what_is_found_is_what_prepare_qat_takes() -> None:
    """The types are in the state, and a model that is made with them has its shape and bits."""
    qat_model = model()
    given = {"candidates": {"0": ["int8"], "3": ["ternary"], "8": ["int8", "int4"]}}
    choice = uqfc.finetune(qat_model, loader(), bit_widths=given, **QUICK).bit_widths
    assert (choice["0"], choice["3"]) == ("int8", "ternary")
    config = {"layers": {name: {"weight_dtype": dtype} for name, dtype in choice.items()}}
    made = uqfc.prepare_qat(network(), config=config, kernels=False)
    fresh = model()
    x, _ = images(seed=5)
    for other in (made, fresh):
        other.load_state_dict(qat_model.state_dict())
        assert torch.equal(other.eval()(x), qat_model(x))
        assert other.decisions == qat_model.decisions


@pytest.mark.parametrize("ready", [False, True])
def test_resume(ready: bool, tmp_path: Path) -> None:
    """The search is not made again."""

    def start() -> QatModel:
        return captured() if ready else model()

    given: dict[str, Any] = {"checkpoint": tmp_path / "t.pt", **QUICK}
    given["bit_widths"] = {"budget_bytes": 200}
    first, second = start(), start()
    result = uqfc.finetune(first, loader(), **given)
    assert uqfc.finetune(second, loader(), **given) == result
    assert same_state(first, second)
    assert first.decisions == second.decisions
    assert torch.equal(first(images()[0]), second(images()[0]))


def test_the_cheapest_loss_of_probability_pays_for_the_budget() -> None:
    """Layers of 100, 100 and 10 bytes as int8; logits say how much int8 is preferred."""
    weights = {"a": torch.ones(10, 10), "b": torch.ones(10, 10), "c": torch.ones(10, 1)}
    search = BitWidthSearch(weights, ("int4", "int8"))
    with torch.no_grad():
        for logits, value in zip(search.logits, (3.0, 2.0, 0.1), strict=True):
            logits.copy_(torch.tensor([0.0, value]))
    found = {budget: within_budget(search, budget) for budget in (210, 209, 204, 155, 154)}
    kept = {k: "".join(n for n, dtype in v.items() if dtype == "int8") for k, v in found.items()}
    assert kept == {210: "abc", 209: "ab", 204: "a", 155: "a", 154: ""}
    assert within_budget(search, None) == dict.fromkeys("abc", "int8")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"budget_bytes": 10}, "budget_bytes is 10, the least of the candidates 135"),
        ({"budget": 10}, "bit_widths: unknown budget; accepted: candidates, budget_bytes"),
        ({"candidates": ["int4", "int3"]}, "candidates: int3; target host has int8, int4"),
        ({"candidates": ["float32"]}, "candidates: float32; target host has"),
        ({"candidates": {"nine": ["int4"]}}, "no layer nine; layers: 0, 3, 8"),
        ({"candidates": []}, "no candidate dtypes"),
        (3, "bit_widths: int; accepted: a mapping, BitWidths, None"),
    ],
)
def test_mistakes(given: Any, message: str) -> None:
    qat_model = captured()
    with pytest.raises(UqfcError, match=message):
        uqfc.finetune(qat_model, loader(), bit_widths=given, **QUICK)


def test_types_can_be_set_by_hand() -> None:
    qat_model = model(example_inputs=images()[0], weight_dtype="int8")
    qat_model.set_weight_dtypes({"3": "binary"})
    assert {name: d.chosen for name, d in qat_model.decisions.items()} == {
        "0": "int8",
        "3": "binary",
        "8": "int8",
    }
    with pytest.raises(UqfcError, match="no layer '1' is quantized; layers: 0, 3, 8"):
        qat_model.set_weight_dtypes({"1": "int4"})
    with pytest.raises(UqfcError, match="layer '0': 'int3'; accepted: int8, int4, ternary, binary"):
        qat_model.set_weight_dtypes({"0": "int3"})
