"""``qat_model.to(device)``: the same integers by other means, on CUDA where there is a GPU."""

from __future__ import annotations

import copy

import pytest

torch = pytest.importorskip("torch")

from tests.qat.tiny import captured, images, same_state  # noqa: E402 - torch first
from uqfc.qat import QatModel, finetune  # noqa: E402

NO_CUDA = not torch.cuda.is_available()
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(NO_CUDA, reason="no CUDA device"))]


def with_kernels() -> QatModel:
    """On the CPU."""
    model = captured()
    model.kernels = True
    return model


def moved(model: QatModel, device: str) -> QatModel:
    """A copy on the device, where no kernels compute."""
    other = copy.deepcopy(model).to(device)
    other.kernels = False
    return other


@pytest.mark.parametrize("device", DEVICES)
def test_evaluation_has_the_bits_of_the_kernels(device: str) -> None:
    model, (x, _) = with_kernels().eval(), images()
    other = moved(model, device)
    assert not other.uses_kernels
    with torch.no_grad():
        assert torch.equal(other(x.to(device)).cpu(), model(x))


@pytest.mark.parametrize("device", DEVICES)
def test_a_pass_of_training_has_the_bits_of_the_kernels(device: str) -> None:
    """With frozen statistics: all else of a forward pass depends on the batch's own."""
    model, (x, _) = with_kernels().train(), images()
    model.frozen_statistics = True
    other = moved(model, device)
    outputs = other(x.to(device))
    assert torch.equal(outputs.detach().cpu(), model(x).detach())
    outputs.square().sum().backward()
    assert all(p.grad is None or p.grad.device.type == device for p in other.parameters())
    assert any(p.grad is not None for p in other.parameters())


@pytest.mark.parametrize("device", DEVICES)
def test_it_trains_there_and_comes_back(device: str) -> None:
    x, y = images()
    model = moved(captured(), device)
    finetune(model, [(x, y)], epochs=2, progress=False)
    assert {t.device.type for t in (*model.parameters(), *model.buffers())} == {device}
    with torch.no_grad():
        there = model(x.to(device)).cpu()
        back = model.cpu()
        back.kernels = True
        assert torch.equal(back(x), there)


@pytest.mark.parametrize("device", DEVICES)
def test_states_go_from_one_device_to_another(device: str) -> None:
    model = captured()
    other = moved(model, device)
    other.load_state_dict(model.state_dict())
    assert same_state(other.cpu(), model)
