"""Modules that stay float are found, and computed, wherever they are and whatever they do."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from tests.qat.test_partial import Branching, Complex, Magnitude, X, network, prepared  # noqa: E402
from uqfc.errors import UqfcError  # noqa: E402
from uqfc.qat.statistics import reestimate_statistics  # noqa: E402 - torch first

nn = torch.nn


class Parts(nn.Module):
    """Calls parts behind one another, of a list that torch may know or not."""

    def __init__(self, *parts: Any, known: bool = True) -> None:
        super().__init__()
        self.list = nn.ModuleList(parts)
        self.called: tuple[Any] = (self.list if known else parts,)

    def forward(self, x: Any) -> Any:
        for part in self.called[0]:
            x = part(x)
        return x


class Around(nn.Module):
    """Cannot be captured itself, nor can its part."""

    def __init__(self, part: Any) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Sequential(part))

    def forward(self, x: Any) -> Any:
        y = self.inner(x)
        return y * 2.0 if y.isfinite().all() else y


class Shapes(nn.Module):
    """One module, called for three shapes."""

    def __init__(self, part: Any) -> None:
        super().__init__()
        self.layer, self.part = nn.Conv2d(4, 4, 2), part

    def forward(self, x: Any) -> Any:
        y = self.layer(self.part(x))
        return self.part(self.part(y).mean((2, 3)))[:, :, None, None] + y


class Attributes(nn.Module):
    """Reads attributes of an LSTM, calls a method, and uses a parameter of it."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = nn.LSTM(9, 4, batch_first=True)

    def forward(self, x: Any) -> Any:
        self.memory.flatten_parameters()
        y, _ = self.memory(x.flatten(2))
        return (y + self.memory.bias_hh_l0[: self.memory.hidden_size])[:, :, :, None]


class Centered(nn.Module):
    """An op of its own has the name of its part, and mixes the images."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.ReLU()

    def forward(self, x: Any) -> Any:
        y = self.mean(x)
        return y - y.mean(0, keepdim=True)


class Spectrum(nn.Module):
    """Has a complex parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.full((4,), 1.0 + 1.0j))

    def forward(self, x: Any) -> Any:
        return torch.view_as_real(x * self.factor[:, None, None])[..., 1]


class Writing(nn.Module):
    def forward(self, x: Any) -> Any:
        return torch.view_as_real(torch.complex(x.mul_(2.0), x))[..., 0]


SHARED = Complex()
PLACES = [
    (Parts(nn.ReLU(), Branching()), ["3.list.1"]),
    (Parts(nn.ReLU(), Complex(), known=False), ["3.list.1"]),
    (Parts(nn.ReLU(), Branching(), known=False), ["3.list.1"]),
    (Parts(Branching(), Around(Branching())), ["3.list.0", "3.list.1"]),
    (Parts(Around(SHARED), SHARED), ["3.list.0", "3.list.1"]),
    (Parts(SHARED, nn.Conv2d(4, 4, 1), Around(SHARED)), ["3.list.0", "3.list.2"]),
    (Shapes(Branching()), ["3.part"]),
    (Shapes(Complex()), ["3.part"]),
    (Attributes(), ["3.memory"]),
    (Centered(), ["3"]),
    (Spectrum(), ["3"]),
    (Writing(), ["3"]),
]


@pytest.mark.parametrize(("part", "floats"), PLACES)
def test_they_are_found(part: Any, floats: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    """Capturing compares with the module; then it trains. torch's graphs are not shown."""
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    model = prepared(nn.Sequential(*network(part)[:4], head))
    assert sorted(model.floats) == floats
    assert "def forward" not in capfd.readouterr().err
    model.train()(X).square().sum().backward()
    trained = [p for p in model.parameters() if p.requires_grad]
    assert all(p.grad is not None for p in trained)


def test_hooks_are_called_once_where_the_module_is() -> None:
    model, whole = network(Complex()), network(Magnitude())
    for part in (model[3], whole[3]):
        part.register_forward_pre_hook(lambda _, args: (args[0] - 0.5,))
        part.register_forward_hook(lambda _, __, y: y + 0.25)
    kept, other = prepared(model).eval(), prepared(whole).eval()
    assert list(kept.floats) == ["3"]
    with torch.no_grad():
        assert torch.equal(kept(X), other(X))


class Skip(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.part = nn.Conv2d(2, 4, 3), Writing()

    def forward(self, x: Any) -> Any:
        y = self.layer(x)
        return self.part(y) + y


def test_what_others_read_is_not_written() -> None:
    with pytest.raises(UqfcError, match="must not write to what others read"):
        prepared(Skip())


class Raising(nn.Module):
    def forward(self, x: Any) -> Any:
        if len(x) < 2:
            raise ValueError("two images, please")
        return x


def test_one_that_raises_is_named() -> None:
    with pytest.raises(UqfcError, match=r"^module '3': ValueError for one image: two images"):
        prepared(network(Raising()))


def test_batch_norms_within_are_frozen_and_estimated_like_others() -> None:
    model = prepared(network(nn.Sequential(nn.BatchNorm2d(4, affine=False), Complex())))
    assert list(model.floats) == ["3.1"]
    model = prepared(network(Around(nn.Sequential(Branching(), nn.BatchNorm2d(4)))))
    assert list(model.floats) == ["3"]
    norm: Any = model.model.get_submodule("3.inner.0.0.1")
    model.train().frozen_statistics = True
    model(X)
    assert int(norm.num_batches_tracked) == 0
    assert norm.training
    seen: list[Any] = []
    norm.register_forward_pre_hook(lambda _, args: seen.append(args[0].mean((0, 2, 3))))
    reestimate_statistics(model, [(X, X), (X + 1.0, X), (X * 2.0, X)])
    assert torch.allclose(norm.running_mean, torch.stack(seen).mean(0), atol=1e-6)
    assert norm.momentum == 0.1
