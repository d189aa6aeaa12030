"""``finetune``: what it reaches, what it repeats, what it refuses."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402 # after the skip

import uqfc  # noqa: E402
from tests.qat.tiny import captured, images, loader, model, network, same_state  # noqa: E402
from uqfc.errors import UqfcError  # noqa: E402
from uqfc.qat import QatModel, reestimate_statistics  # noqa: E402
from uqfc.qat.objective import Objective, cross_entropy  # noqa: E402
from uqfc.qat.schedule import Schedule, parameter_groups  # noqa: E402

QUICK: dict[str, Any] = {"learning_rate": 0.01, "progress": False}


def accuracy(trained: QatModel) -> float:
    x, y = images(seed=1)
    return float((trained(x).argmax(1) == y).float().mean())


def test_the_two_calls_of_a_user_learn() -> None:
    """From random weights: 48 images, 8 epochs of 3 steps."""
    qat_model = uqfc.prepare_qat(network(), kernels=False)
    result = uqfc.finetune(qat_model, loader(), epochs=8, learning_rate=0.05, progress=False)
    assert [epoch.number for epoch in result.history] == list(range(1, 9))
    assert result.history[-1].loss < result.history[0].loss
    assert result.best_epoch == 8
    assert not qat_model.training
    assert accuracy(qat_model) > 0.5  # a third by chance


def test_evaluation_after_finetune_is_the_deployed_network() -> None:
    """Compiled kernels against integer-valued floats."""
    qat_model = model(kernels=True)
    uqfc.finetune(qat_model, loader(), epochs=1, **QUICK)
    x, _ = images(seed=2)
    compiled = qat_model(x)
    qat_model.kernels = False
    assert torch.equal(compiled, qat_model(x))


@pytest.mark.parametrize("teacher", [False, True])
def test_equal_seeds_give_equal_bits_whatever_the_global_generators_are(teacher: bool) -> None:
    trained: list[QatModel] = []
    for noise in (1, 2):
        qat_model = model()
        torch.manual_seed(noise)
        np.random.seed(noise)  # noqa: NPY002 # the generator that finetune keeps
        random.seed(noise)
        legacy: Any = np.random.get_state()  # noqa: NPY002
        before = torch.get_rng_state(), legacy[1], random.getstate()
        uqfc.finetune(qat_model, loader(), seed=3, teacher=teacher, **QUICK)
        assert torch.equal(before[0], torch.get_rng_state())
        legacy = np.random.get_state()  # noqa: NPY002
        assert np.array_equal(before[1], legacy[1])
        assert before[2] == random.getstate()
        trained.append(qat_model)
    assert same_state(*trained)
    other = model()
    uqfc.finetune(other, loader(), seed=4, teacher=teacher, **QUICK)
    assert not same_state(other, trained[0])


def test_the_best_epoch_is_kept() -> None:
    """A metric that prefers the second of four epochs; of equal ones, the last."""
    for scores, best in (([1.0, 5.0, 2.0, 3.0], 2), ([1.0, 5.0, 5.0, 3.0], 3)):
        qat_model, states = captured(), list[dict[str, Any]]()

        def metric(outputs: Tensor, targets: Tensor) -> float:
            if not qat_model.training:  # noqa: B023 # called in this round
                states.append(copy.deepcopy(qat_model.state_dict()))  # noqa: B023
            return scores[len(states) - 1]  # noqa: B023

        validation = [images()]
        result = uqfc.finetune(
            qat_model, loader(), 4, validation_loader=validation, metric=metric, **QUICK
        )
        assert result.best_epoch == best
        assert result.best.metric == 5.0
        kept = qat_model.state_dict()
        names = [name for name, value in kept.items() if isinstance(value, Tensor)]
        assert all(torch.equal(kept[name], states[best - 1][name]) for name in names)
        assert any(not torch.equal(kept[name], states[best][name]) for name in names)


def test_the_metric_is_that_of_the_deployed_network() -> None:
    qat_model, (x, y) = captured(), images(seed=3)
    validation = [(x[:20], y[:20]), (x[20:], y[20:])]
    result = uqfc.finetune(qat_model, loader(), 1, validation_loader=validation, **QUICK)
    right = int((qat_model(x).argmax(1) == y).sum())
    assert math.isclose(result.best.metric, right / len(y), rel_tol=1e-6)  # of two means


def test_a_loss_of_ones_own() -> None:
    """Negated, it is the metric, but for classes: of those, the share that is right."""

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        wanted = targets if targets.ndim > 1 else nn.functional.one_hot(targets, 3)
        return ((outputs - wanted) ** 2).mean()

    x, y = images()
    vectors = [(x, nn.functional.one_hot(y, 3).float())]
    result = uqfc.finetune(captured(), vectors, 5, loss=loss, **QUICK)
    assert result.history[-1].loss < result.history[0].loss
    assert result.best.metric == -result.best.loss
    classes = uqfc.finetune(captured(), [(x, y)], 1, loss=loss, **QUICK)
    assert 0 <= classes.best.metric <= 1


def test_an_optimizer_of_ones_own() -> None:
    """Made before the model is captured; its rates are scheduled, and put back."""
    qat_model = model()
    optimizer = torch.optim.SGD(qat_model.parameters(), lr=0.1, momentum=0.9)
    result = uqfc.finetune(qat_model, loader(), 2, optimizer=optimizer, progress=False)
    assert optimizer.param_groups[0]["lr"] == 0.1
    assert 0 < result.best.learning_rate < 0.1
    constant = uqfc.finetune(
        qat_model, loader(), 1, optimizer=optimizer, schedule="constant", progress=False
    )
    assert constant.best.learning_rate == 0.1
    made = uqfc.finetune(qat_model, loader(), 1, optimizer=torch.optim.RMSprop, progress=False)
    assert made.best_epoch == 1


def test_only_weights_decay() -> None:
    qat_model = model(example_inputs=images()[0])
    weights, others = parameter_groups(qat_model, 1.0, 0.5)
    assert {p.ndim for p in weights["params"]} == {2, 4}
    assert {p.ndim for p in others["params"]} == {1}
    assert (weights["weight_decay"], others["weight_decay"]) == (0.5, 0.0)
    assert len(weights["params"]) + len(others["params"]) == len(list(qat_model.parameters()))


def test_rates_rise_and_fall() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = Schedule(optimizer, 1000, "cosine")
    rates = [schedule.set(step) for step in range(1000)]
    assert rates[0] == 2.0 / 50
    assert rates.index(max(rates)) in (49, 50)
    assert rates[500] == pytest.approx(1.0, rel=1e-12)  # half of it: cos(pi / 2), rounded
    assert rates[-1] < 1e-4


def test_statistics_are_averages() -> None:
    """Of the first batches, with weights that are folded with the average up to each of them."""
    qat_model, expected = model(example_inputs=images()[0]), model(example_inputs=images()[0])
    qat_model.eval()
    qat_model.frozen_statistics = True
    reestimate_statistics(qat_model, loader(shuffle=False), 2)
    assert not qat_model.training
    assert qat_model.frozen_statistics
    assert qat_model.get_submodule("model.1").momentum == 0.1
    for (x, _), momentum in zip(loader(shuffle=False), (1.0, 0.5), strict=False):
        for norm in ("model.1", "model.4"):
            module: Any = expected.get_submodule(norm)
            module.momentum = momentum
        expected(x)
    expected.frozen_statistics = True
    assert same_state(qat_model, expected)


def test_statistics_take_batches() -> None:
    with pytest.raises(UqfcError, match="batches: 0; accepted: 1 or more"):
        reestimate_statistics(model(), loader(), 0)
    with pytest.raises(UqfcError, match="loader: no batches"):
        reestimate_statistics(model(), [])


def test_freezing_statistics() -> None:
    """From the start: they never change; from the middle: training goes on with deployed bits."""
    qat_model = captured()
    before = copy.deepcopy(qat_model.model[1].running_mean)  # type: ignore[index]
    uqfc.finetune(qat_model, loader(), 1, freeze_statistics_at=0.0, **QUICK)
    assert torch.equal(before, qat_model.model[1].running_mean)  # type: ignore[index]
    assert not qat_model.frozen_statistics
    uqfc.finetune(qat_model, loader(), 1, freeze_statistics_at=0.5, **QUICK)
    assert not torch.equal(before, qat_model.model[1].running_mean)  # type: ignore[index]


def test_distillation_is_its_formula() -> None:
    student, teacher = torch.randn(5, 3), torch.randn(5, 3)
    batch: Any = type("Batch", (), {"inputs": (teacher,), "targets": torch.arange(5) % 3})
    found = Objective(cross_entropy, nn.Identity(), 0.25, 2.0)(student, batch)
    p, q = torch.softmax(teacher.double() / 2, 1), torch.softmax(student.double() / 2, 1)
    distance = 4 * (p * (p / q).log()).sum(1).mean()
    wanted = 0.75 * nn.functional.cross_entropy(student, batch.targets) + 0.25 * distance
    assert torch.allclose(found.double(), wanted, rtol=1e-5)  # some ten float32 operations


def test_a_distilled_model_follows_its_teacher() -> None:
    """With random targets, and the whole loss the teacher's."""
    x, _ = images()
    qat_model = captured()
    float_model = copy.deepcopy(qat_model.model).eval()
    batches = [(x, torch.zeros(len(x), dtype=torch.long))]
    history = uqfc.finetune(
        qat_model, batches, 10, teacher=float_model, teacher_weight=1.0, **QUICK
    ).history
    assert history[-1].loss < history[0].loss
    assert not any(p.requires_grad is False for p in float_model.parameters())


def broken(kind: str) -> Iterator[Any]:
    x, y = images()
    yield {"alone": x, "three": (x, y, y), "array": (x.numpy(), y), "none": ((), y)}[kind]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"train_loader": []}, "train_loader: no batches"),
        ({"train_loader": broken("alone")}, "iterated only once"),
        ({"train_loader": 3}, "int; accepted: an iterable"),
        ({"train_loader": list(broken("alone"))}, "a batch is Tensor; accepted"),
        ({"train_loader": list(broken("three"))}, r"tuple of 3 \(Tensor, Tensor, Tensor\)"),
        ({"train_loader": list(broken("array"))}, "inputs of a batch are ndarray"),
        ({"train_loader": list(broken("none"))}, "inputs of a batch are tuple of 0"),
        ({"validation_loader": []}, "validation_loader: no batches"),
        ({"epochs": 0}, "epochs: 0; accepted: a whole number, 1 or more"),
        ({"epochs": 1.5}, "epochs: 1.5"),
        ({"learning_rate": math.nan}, "learning_rate: nan"),
        ({"teacher_weight": 2}, "teacher_weight: 2; accepted: a number, 0 to 1"),
        ({"freeze_statistics_at": -0.5}, "freeze_statistics_at: -0.5"),
        ({"teacher": 3}, "teacher: int; accepted: True, False, a torch.nn.Module"),
        ({"teacher": nn.Linear(6, 2)}, "teacher: gives outputs of shape"),
        ({"optimizer": 3}, "optimizer: int; accepted"),
        ({"schedule": "linear"}, "schedule: 'linear'; accepted: cosine, constant"),
        ({"qat_model": nn.Linear(1, 1)}, "finetune takes a model of prepare_qat, got Linear"),
    ],
)
def test_mistakes(arguments: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"qat_model": captured(), "train_loader": loader(), "epochs": 1}
    with pytest.raises(UqfcError, match=message):
        uqfc.finetune(**{**given, **QUICK, **arguments})


def test_other_targets_than_classes_need_a_loss() -> None:
    x, y = images()
    with pytest.raises(UqfcError, match="give finetune another loss"):
        uqfc.finetune(captured(), [(x, y.float())], 1, **QUICK)


def test_a_loss_that_is_not_finite_stops() -> None:
    x, y = images()
    qat_model = captured()
    calls = 0

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return outputs.sum() * (math.nan if calls == 5 else 1.0)

    batches = [(x[:24], y[:24]), (x[24:], y[24:])]
    with pytest.raises(UqfcError, match="epoch 3, step 1: the loss is nan"):
        uqfc.finetune(qat_model, batches, 4, loss=loss, metric=lambda o, t: 0.0, **QUICK)


def test_progress_is_a_line_an_epoch_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    uqfc.finetune(captured(), loader(), 2, learning_rate=0.01)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in lines] == ["epoch 1", "epoch 2"]
    uqfc.finetune(captured(), loader(), 1, **QUICK)
    assert capsys.readouterr() == ("", "")
