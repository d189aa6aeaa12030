"""Modules that uqfc cannot import stay float; all else has the bits it would have without them."""

from __future__ import annotations

import copy
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

import uqfc  # noqa: E402 - torch first
from uqfc.errors import UnsupportedError, UqfcError  # noqa: E402
from uqfc.qat import QatModel, finetune, prepare_qat  # noqa: E402

nn = torch.nn


class Magnitude(nn.Module):
    """|x|, in an op that stays float32 in the deployed network, too, and has no rounding."""

    def forward(self, x: Any) -> Any:
        return torch.maximum(x, -x)


class Branching(Magnitude):
    """The same, in a way that cannot be captured."""

    def forward(self, x: Any) -> Any:
        return torch.maximum(x, -x) if x.isfinite().all() else x


class Complex(Magnitude):
    """The same, by ops that have no converter: a complex number of no imaginary part."""

    def forward(self, x: Any) -> Any:
        return torch.view_as_real(torch.complex(torch.maximum(x, -x), x * 0.0))[..., 0]


class Twice(nn.Module):
    """Its part is called twice; results are a tuple in a dictionary."""

    def __init__(self, part: Any) -> None:
        super().__init__()
        self.part = part

    def forward(self, x: Any) -> Any:
        return self.part(self.part(x) - 0.25)


def network(part: Any, seed: int = 0) -> Any:
    """With ``part`` between a convolution and a linear layer; inputs are [N, 2, 5, 5]."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU6(), part, nn.Flatten(), nn.Linear(36, 3)
    )


X = torch.randn(6, 2, 5, 5, generator=torch.Generator().manual_seed(1))


def prepared(model: Any, **arguments: Any) -> QatModel:
    return prepare_qat(model, example_inputs=X, kernels=False, partial=True, **arguments)


@pytest.mark.parametrize("kind", [Branching, Complex])
def test_they_are_listed_with_a_reason(kind: Any) -> None:
    model = prepared(network(kind()))
    ((path, why),) = model.floats.items()
    assert path == "3"
    assert "torch.export cannot capture it" in why or "no converter" in why
    assert set(model.plan.layers) == {"0", "5"}


def test_without_partial_they_are_refused_by_name() -> None:
    with pytest.raises(UnsupportedError, match=r"'3\.view_as_real'"):
        prepare_qat(network(Complex()), example_inputs=X)


def test_nothing_is_kept_that_can_be_imported() -> None:
    model = prepared(network(Magnitude()))
    assert model.floats == {}
    assert uqfc.compile(model).layers


@pytest.mark.parametrize("kernels", [False, True])
@settings(max_examples=6, deadline=None)
@given(
    seed=st.integers(0, 999),
    kind=st.sampled_from([Branching, Complex]),
    twice=st.booleans(),
    dtype=st.sampled_from(["int4", "int8"]),
)
def test_the_bits_around_them_are_those_of_the_whole_network(
    kernels: bool, seed: int, kind: Any, twice: bool, dtype: str
) -> None:
    """Evaluated, and in a step of training with frozen statistics; gradients too."""
    parts = [Twice(each()) if twice else each() for each in (kind, Magnitude)]
    kept, whole = (
        prepare_qat(
            network(part, seed), dtype, example_inputs=X, kernels=kernels, partial=part is parts[0]
        )
        for part in parts
    )
    assert list(kept.floats) == ["3.part" if twice else "3"]
    for model in (kept, whole):
        model.eval()
    with torch.no_grad():
        assert torch.equal(kept(X), whole(X))
    for model in (kept, whole):
        model.train()
        model.frozen_statistics = True
        model(X).square().sum().backward()
    for (name, a), b in zip(kept.named_parameters(), whole.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad), name


class Recurrent(nn.Module):
    """An LSTM, which moves the batch, with one of its results unused."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(2, 4, 3)
        self.memory = nn.LSTM(9, 5, batch_first=True)
        self.head = nn.Linear(5, 3)

    def forward(self, x: Any) -> Any:
        sequence, _ = self.memory(self.layer(x).flatten(2))
        return self.head(sequence[:, -1])


def test_a_recurrent_network_trains() -> None:
    """The error without ``partial`` names the module; with it, all parameters learn."""
    with pytest.raises(UqfcError, match=r"layer 'memory[^']*': it mixes or moves the first dim"):
        prepare_qat(Recurrent(), example_inputs=X, kernels=False)
    model = prepared(Recurrent())
    assert list(model.floats) == ["memory"]
    before = copy.deepcopy(dict(model.model.named_parameters()))
    loader = [(X, torch.tensor([0, 1, 2, 0, 1, 2]))]
    finetune(model, loader, epochs=2, progress=False)
    for name, parameter in model.model.named_parameters():
        assert not torch.equal(parameter, before[name]), name


def test_modes_reach_them_and_calibration_does_not_change_them() -> None:
    """Batch norms in them take statistics when the model trains, and only then."""

    class Normed(Branching):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(4)

        def forward(self, x: Any) -> Any:
            return super().forward(self.norm(x))

    model = network(Normed())
    model.train()
    model[1].eval()
    qat_model = prepared(model, calibration_data=[X, X])
    norm: Any = qat_model.model.get_submodule("3.norm")
    assert int(norm.num_batches_tracked) == 0
    assert [m.training for m in qat_model.model.children()][:2] == [True, False]
    qat_model.train()(X)
    assert int(norm.num_batches_tracked) == 1
    qat_model.eval()(X)
    assert int(norm.num_batches_tracked) == 1


def test_such_a_model_has_no_binary(tmp_path: Path) -> None:
    model = prepared(network(Complex()))
    message = r"no deployed network\n  module '3': aten\.complex\.default: no converter"
    for refused in (
        lambda: uqfc.export(model, tmp_path / "model.cann"),
        lambda: uqfc.compile(model),
        lambda: model.compare(X),
    ):
        with pytest.raises(UqfcError, match=message):
            refused()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("copied", ["state", "deepcopy", "save"])
def test_copies_know_them(copied: str, tmp_path: Path) -> None:

    def named(seed: int) -> Any:
        return nn.Sequential(OrderedDict({"é": network(Branching(), seed)}))

    model = prepared(named(0)).eval()
    assert list(model.floats) == ["é.3"]
    match copied:
        case "state":
            other = prepare_qat(named(7), kernels=False, partial=True).eval()
            other.load_state_dict(model.state_dict())
        case "save":
            torch.save(model, tmp_path / "model.pt")
            other = torch.load(tmp_path / "model.pt", weights_only=False)
        case _:
            other = copy.deepcopy(model)
    assert other.floats == model.floats
    with torch.no_grad():
        assert torch.equal(other(X), model(X))


class Outermost(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(2, 4, 3)

    def forward(self, x: Any) -> Any:
        return torch.view_as_real(torch.complex(self.layer(x), self.layer(x)))[..., 0]


class Named(Branching):
    def forward(self, x: Any, factor: float = 1.0) -> Any:
        return super().forward(x) * factor


class Calls(nn.Module):
    """Calls its part in a way that a module that stays float does not allow."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.layer, self.part, self.how = nn.Conv2d(2, 4, 3), Named(), how

    def forward(self, x: Any) -> Any:
        y = self.layer(x)
        return self.part(y, factor=2.0) if self.how == "name" else self.part(y, 2.0)


REFUSED = [
    (Outermost(), UnsupportedError, r"the outermost module itself: .* in a module of its own"),
    (Branching(), UqfcError, r"^Branching: torch\.export cannot capture"),
    (Calls("name"), UqfcError, r"module 'part' cannot stay float: it is called with float;"),
    (Calls("position"), UqfcError, r"module 'part' cannot stay float: it is called with float;"),
]


@pytest.mark.parametrize(("model", "error", "message"), REFUSED)
def test_what_cannot_stay_float_is_named(model: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        prepared(model)
