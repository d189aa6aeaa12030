"""What is saved of a model and of its training is what goes on: bit for bit."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402 # after the skip
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn  # noqa: E402

import uqfc  # noqa: E402
from tests.qat.tiny import (  # noqa: E402
    Interrupted,
    Interrupting,
    captured,
    images,
    loader,
    model,
    network,
    same_state,
)
from uqfc.errors import UqfcError  # noqa: E402
from uqfc.qat import QatModel  # noqa: E402

QUICK: dict[str, Any] = {"learning_rate": 0.01, "progress": False}


@pytest.mark.parametrize("own", [False, True])
def test_a_resumed_call_has_the_bits_of_an_unbroken_one(tmp_path: Path, own: bool) -> None:
    """Interrupted in the third epoch. ``own``: the loader has its own generator."""
    given: dict[str, Any] = {"epochs": 4, "teacher": True, "statistics_batches": 2, **QUICK}
    given["validation_loader"] = [images(seed=7)]
    unbroken = model()
    expected = uqfc.finetune(unbroken, loader(own=own), **given)

    given["checkpoint"] = tmp_path / "deep" / "training.pt"
    with pytest.raises(Interrupted):  # calibration takes 3 batches, epochs 3 + 2
        uqfc.finetune(model(), Interrupting(loader(own=own), 15), **given)
    resumed = model()
    again = loader(own=own)
    found = uqfc.finetune(resumed, again, **given)
    assert found == expected
    assert same_state(resumed, unbroken)
    assert [path.name for path in given["checkpoint"].parent.iterdir()] == ["training.pt"]

    finished = model(1)
    assert uqfc.finetune(finished, again, **given) == expected  # nothing is left to do
    assert same_state(finished, unbroken)


def test_a_checkpoint_of_another_call_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "training.pt"
    uqfc.finetune(captured(), loader(), 1, checkpoint=path, **QUICK)
    with pytest.raises(UqfcError, match=r"of a call with seed=0, this has 1; give the same"):
        uqfc.finetune(captured(), loader(), 1, checkpoint=path, seed=1, **QUICK)
    with pytest.raises(UqfcError, match="of a call with options="):
        uqfc.finetune(model(weight_dtype="int8"), loader(), 1, checkpoint=path, **QUICK)
    other = uqfc.prepare_qat(nn.Sequential(nn.Flatten(), nn.Linear(36, 3)), kernels=False)
    with pytest.raises(UqfcError, match="of another model"):
        uqfc.finetune(other, loader(), 1, checkpoint=path, **QUICK)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UqfcError, match="cannot read"):
        uqfc.finetune(captured(), loader(), 1, checkpoint=path, **QUICK)
    torch.save({"model": 1}, path)
    with pytest.raises(UqfcError, match="not what finetune writes"):
        uqfc.finetune(captured(), loader(), 1, checkpoint=path, **QUICK)
    with pytest.raises(UqfcError, match="cannot write"):
        uqfc.finetune(captured(), loader(), 1, checkpoint=path / "below", **QUICK)


def trained(qat_model: QatModel, steps: int = 3, optimizer: Any = None) -> QatModel:
    """A training loop as users write it; the optimizer is older than the first batch."""
    optimizer = optimizer or torch.optim.SGD(qat_model.parameters(), lr=0.01, momentum=0.9)
    x, y = images()
    qat_model.train()
    for step in range(steps):
        part = slice(16 * (step % 3), 16 * (step % 3) + 16)
        loss = nn.functional.cross_entropy(qat_model(x[part]), y[part])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(qat_model.parameters(), 1.0)
        optimizer.step()
    return qat_model


def outputs(qat_model: nn.Module) -> Any:
    qat_model.eval()
    with torch.no_grad():
        return qat_model(images(seed=9)[0])


def test_copies_go_on_as_the_original_does(tmp_path: Path) -> None:
    """deepcopy, torch.save of the model, and its state in a model that saw no batch yet."""
    original = trained(model())
    path = tmp_path / "model.pt"
    torch.save(original, path)
    state = tmp_path / "state.pt"
    torch.save(original.state_dict(), state)
    fresh = model(1)
    fresh.load_state_dict(torch.load(state, weights_only=True))
    copies = [copy.deepcopy(original), torch.load(path, weights_only=False), fresh]
    expected = outputs(original)
    after = trained(original)
    for each in copies:
        assert torch.equal(outputs(each), expected)
        assert same_state(trained(each), after)
        assert torch.equal(outputs(each), outputs(after))
    assert not torch.equal(outputs(after), expected)


def test_training_changes_every_parameter() -> None:
    """Also those whose optimizer was made before it was known how many scales there are."""
    qat_model = model()
    optimizer = torch.optim.SGD(qat_model.parameters(), lr=0.01)
    trained(qat_model, 1, optimizer)
    before = copy.deepcopy(qat_model.state_dict())
    trained(qat_model, 3, optimizer)
    for name, parameter in qat_model.named_parameters():
        if name != "model.3.bias":  # the batch norm after it subtracts it again
            assert not torch.equal(parameter, before[name]), name


def test_the_average_of_models_is_a_model() -> None:
    """The EMA of parameters is deployed as they are; it is made after the first batch."""
    qat_model = trained(model(), 1)
    average = AveragedModel(qat_model, multi_avg_fn=get_ema_multi_avg_fn(0.5), use_buffers=True)
    for _ in range(3):
        trained(qat_model, 1)
        average.update_parameters(qat_model)
    assert isinstance(average.module, QatModel)
    assert not same_state(average.module, qat_model)
    expected = model(2)
    expected.load_state_dict(average.module.state_dict())
    assert torch.equal(outputs(average), outputs(expected))


def test_only_some_parameters_are_trained() -> None:
    """Those of a frozen layer stay as they are."""
    frozen = network()
    frozen.get_submodule("0").requires_grad_(False)
    qat_model = uqfc.prepare_qat(frozen, kernels=False)
    before = copy.deepcopy(frozen.state_dict())
    uqfc.finetune(qat_model, loader(), 1, **QUICK)
    assert torch.equal(qat_model.model.state_dict()["0.weight"], before["0.weight"])
    assert not torch.equal(qat_model.model.state_dict()["3.weight"], before["3.weight"])
