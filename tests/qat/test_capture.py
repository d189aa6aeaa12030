"""Which modules and inputs QAT takes, and what it says about the others."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from uqfc.errors import CalibrationError, InputError, UqfcError  # noqa: E402 - torch first
from uqfc.qat.model import QatModel  # noqa: E402
from uqfc.qat.prepare import prepare_qat  # noqa: E402

nn = torch.nn
X = torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(0))


def module() -> Any:
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2)
    return nn.Sequential(*layers)


def prepared(model: Any, *inputs: Any, **options: Any) -> QatModel:
    return prepare_qat(model, example_inputs=inputs, kernels=False, **options)


def check(model: QatModel, *inputs: Any) -> None:
    """Gradients reach every parameter, and the law holds."""
    model.eval()
    outputs = model(*inputs)
    each = outputs if isinstance(outputs, tuple) else (outputs,)
    torch.stack([(y * y).sum() for y in each]).sum().backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []
    with torch.no_grad():
        deployed = model(*inputs)
    for a, b in zip(each, deployed if isinstance(deployed, tuple) else (deployed,), strict=True):
        assert torch.equal(a, b)
    comparison = model.compare(*inputs)
    assert comparison.is_equal, str(comparison)


# --- modules --------------------------------------------------------------------------------------


class Flow(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 1)

    def forward(self, x: Any) -> Any:
        y = self.layer(x)
        return y if y.sum() > 0 else -y


class OfTheBatch(Flow):
    def forward(self, x: Any) -> Any:
        y = self.layer(x)
        return y - y.mean(0, keepdim=True)


class Counting(Flow):
    count = 0

    def forward(self, x: Any) -> Any:
        self.count += 1
        return self.layer(x) * float(self.count)


class Shifted(Flow):
    def forward(self, x: Any) -> Any:
        return torch.relu(self.layer(x) + 1.0)


class Mapped(Flow):
    def forward(self, x: Any) -> Any:
        return {"y": self.layer(x)}


REFUSED: list[tuple[Any, str]] = [
    (Flow, r"^Flow: torch\.export cannot capture .*accepted: modules .* without Python branches"),
    (OfTheBatch, r"layer '.*': it mixes or moves the first dimension; accepted"),
    (Counting, r"Counting: output 0 of the captured network differs .* Python state"),
    (Shifted, r"layer 'layer': a constant behind it is folded into its weights or bias; accepted"),
    (Mapped, r"Mapped: returns dict; accepted: a tensor, or several"),
]


@pytest.mark.parametrize(("kind", "message"), REFUSED)
def test_modules_that_cannot_be_trained_are_named(kind: Any, message: str) -> None:
    with pytest.raises(UqfcError, match=message) as caught:
        prepared(kind(), X)
    assert "Traceback" not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_statistics_of_the_batch_in_evaluation_are_refused() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, track_running_stats=False))
    with pytest.raises(UqfcError, match="mixes or moves the first dimension"):
        prepared(model, X)


def test_a_refused_module_keeps_its_mode() -> None:
    for training in (True, False):
        model = Flow().train(training)
        with pytest.raises(UqfcError):
            prepared(model, X, inplace=True)
        assert model.training == training


class TwoAndTwo(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.image, self.vector = nn.Conv2d(3, 4, 1), nn.Linear(5, 4)

    def forward(self, x: Any, v: Any) -> Any:
        y, z = self.image(x), self.vector(v)
        return y.mean((2, 3)) + z, torch.relu(z)


def test_two_inputs_and_two_outputs() -> None:
    v = torch.randn(4, 5, generator=torch.Generator().manual_seed(1))
    model = prepared(TwoAndTwo(), X, v)
    check(model, X, v)
    with pytest.raises(InputError, match=r"1 input\(s\); the network takes 2"):
        model(X)
    with pytest.raises(InputError, match="batches of 3, 4 images"):
        model(X, v[:3])


class Shared(nn.Module):
    """A weight in two layers, and a layer with its batch norm called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
        self.b.weight = self.a.weight
        self.c, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)

    def forward(self, x: Any) -> Any:
        x = self.b(torch.relu(self.a(x)))
        return self.norm(self.c(torch.relu(self.norm(self.c(x)))))


def test_shared_parameters() -> None:
    model = prepared(Shared(), X)
    assert len(model.plan.layers) == 4
    check(model, X)


# --- parameters -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "what"), [("0.weight", "weight"), ("0.bias", "bias")])
def test_parameters_that_are_not_finite_are_named(name: str, what: str) -> None:
    model = module()
    model.get_parameter(name).data[0] = float("nan")
    with pytest.raises(CalibrationError, match=f"layer '0': {what} '{name}'.* is not finite"):
        prepared(model, X)


def test_other_parameters_than_float32_are_named() -> None:
    with pytest.raises(UqfcError, match=r"Sequential: '0\.weight' is float64; accepted: float32"):
        prepared(module().double(), X)


# --- inputs ---------------------------------------------------------------------------------------

WRONG: list[tuple[Any, str]] = [
    (torch.zeros(2, 3, 6, 7), r"input 0 is float32 \[2, 3, 6, 7\]; .* float32 \[N, 3, 6, 6\]"),
    (torch.zeros(2, 4, 6, 6), r"captured for float32 \[N, 3, 6, 6\]"),
    (torch.zeros(3, 6, 6), r"captured for float32 \[N, 3, 6, 6\]"),
    (X.int(), r"input 0 is int32 \[4, 3, 6, 6\]; .* float32"),
    (X.double(), r"input 0 is float64; accepted: float32"),
    (X.half(), r"input 0 is float16; accepted: float32"),
    (X[:0], r"input 0 is \[0, 3, 6, 6\]; accepted: a batch, not empty"),
    ([1, 2], r"input 0 is list; accepted: a torch\.Tensor"),
]


@pytest.mark.parametrize(("x", "message"), WRONG)
def test_wrong_inputs_are_named_in_every_mode(x: Any, message: str) -> None:
    model = prepared(module(), X)
    for training in (True, False):
        model.train(training)
        with pytest.raises(InputError, match=message):
            model(x)
        with torch.no_grad(), pytest.raises(InputError, match=message):
            model(x)


DATA: list[tuple[dict[str, Any], str]] = [
    ({"example_inputs": 3}, "a batch is int; accepted"),
    ({"example_inputs": ()}, "no inputs; accepted"),
    ({"calibration_data": 3}, "calibration_data: int; accepted: an iterable"),
    ({"calibration_data": X}, "calibration_data: Tensor; accepted: an iterable"),
    ({"calibration_data": []}, "calibration_data: no batches"),
    ({"calibration_data": [X, X[:, :, 1:]]}, r"input 0 is float32 \[4, 3, 5, 6\]"),
    ({"calibration_data": [X * float("nan")]}, "nan"),
]


@pytest.mark.parametrize(("arguments", "message"), DATA)
def test_wrong_data_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UqfcError, match=message):
        prepare_qat(module(), **arguments)


def test_any_layout_of_memory() -> None:
    model = prepared(module(), X).eval()
    wanted = model(X)
    strided = X.transpose(2, 3).contiguous().transpose(2, 3)
    for kernels in {False, prepare_qat(module()).kernels}:
        model.kernels = kernels
        for x in (X.to(memory_format=torch.channels_last), strided, X.expand_as(X)):
            assert torch.equal(model(x), wanted)
            with torch.no_grad():
                assert torch.equal(model(x), wanted)


def test_inputs_may_want_gradients() -> None:
    x = X.clone().requires_grad_()
    prepared(module(), X)(x).square().sum().backward()
    assert x.grad is not None
    assert bool(x.grad.any())
