"""Parameters that training does not reach are listed, and ask for no gradient."""

from __future__ import annotations

import copy

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402 - torch first

from uqfc.errors import UqfcError  # noqa: E402
from uqfc.qat import QatModel, prepare_qat  # noqa: E402


def network() -> nn.Module:
    """With a slope and a layer norm; images are [N, 2, 5, 5]."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3),
        nn.PReLU(4),
        nn.Conv2d(4, 3, 3),
        nn.BatchNorm2d(3),
        nn.Flatten(),
        nn.LayerNorm(3),
        nn.Linear(3, 2),
    )


def test_constants_are_listed_and_held() -> None:
    x = torch.randn(4, 2, 5, 5)
    qat_model = prepare_qat(network(), example_inputs=x, kernels=False)
    assert set(qat_model.constants) == {"1.weight", "5.weight", "5.bias"}
    held = {n for n, p in qat_model.model.named_parameters() if not p.requires_grad}
    assert held == set(qat_model.constants)
    qat_model.train()
    qat_model(x).square().mean().backward()
    trained = [p for p in qat_model.parameters() if p.requires_grad]
    assert all(p.grad is not None for p in trained)


@pytest.mark.parametrize("copied", ["state", "deepcopy"])
def test_copies_know_them(copied: str) -> None:
    x = torch.randn(4, 2, 5, 5)
    qat_model = prepare_qat(network(), example_inputs=x, kernels=False).eval()
    other: QatModel = copy.deepcopy(qat_model)
    if copied == "state":
        other = prepare_qat(network(), kernels=False).eval()
        other.load_state_dict(qat_model.state_dict())
    assert other.constants == qat_model.constants
    with torch.no_grad():
        assert torch.equal(other(x), qat_model(x))


def test_other_values_are_refused() -> None:
    """Loaded later, or written in place: the network that was captured would not have them."""
    x = torch.randn(4, 2, 5, 5)
    qat_model = prepare_qat(network(), example_inputs=x, kernels=False).eval()
    before = qat_model.state_dict()
    other = {**before, "model.1.weight": before["model.1.weight"] + 1.0}
    message = r"'1\.weight' \(aten\.prelu\.default '1'\) has other values than when .* captured"
    with pytest.raises(UqfcError, match=message):
        copy.deepcopy(qat_model).load_state_dict(other)
    with torch.no_grad():
        qat_model.model.get_parameter("1.weight").add_(1.0)
    with pytest.raises(UqfcError, match=message), torch.no_grad():
        qat_model(x)


def test_statistics_of_other_batch_norms_are_constants() -> None:
    """Nothing is silently ignored: a batch norm in front of the layer is not folded."""
    x = torch.randn(4, 2, 5, 5)
    qat_model = prepare_qat(
        nn.Sequential(nn.BatchNorm2d(2), nn.Conv2d(2, 4, 3)), example_inputs=x, kernels=False
    )
    assert {"0.running_mean", "0.running_var"} <= set(qat_model.constants)
    state = qat_model.state_dict()
    state["model.0.running_mean"] = state["model.0.running_mean"] + 1.0
    with pytest.raises(UqfcError, match=r"'0\.running_mean' \(.*\) has other values"):
        qat_model.load_state_dict(state)


def test_the_state_of_another_model_is_refused() -> None:
    x = torch.randn(4, 2, 5, 5)
    state = prepare_qat(network(), example_inputs=x, kernels=False).state_dict()
    other = prepare_qat(nn.Sequential(nn.Conv2d(2, 4, 3)), kernels=False)
    with pytest.raises(
        UqfcError, match=r"^Sequential has no '2\.weight', '6\.weight', '1\.weight'"
    ):
        other.load_state_dict(state)
