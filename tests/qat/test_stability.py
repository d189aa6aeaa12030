"""Oscillating weights in ``finetune``: tracked, damped, frozen."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

import uqfc  # noqa: E402 # after the skip
from tests.qat.tiny import (  # noqa: E402
    Interrupted,
    Interrupting,
    captured,
    images,
    loader,
    model,
    same_state,
)
from uqfc.errors import UqfcError  # noqa: E402
from uqfc.qat.stability import Oscillations  # noqa: E402

QUICK: dict[str, Any] = {"learning_rate": 0.01, "progress": False, "statistics_batches": 2}


def integers(tracked: Oscillations) -> list[Any]:
    return [found.q.clone() for _, _, _, found in tracked.present()]


@pytest.mark.parametrize("dtype", ["int8", "int4", "ternary", "binary"])
def test_frozen_weights_keep_their_integers(dtype: str) -> None:
    """Whatever happens to weights, scales, and statistics that are folded into them."""
    qat_model = model(weight_dtype=dtype, calibration_data=[images()[0]])
    tracked = Oscillations(qat_model, "freeze", 10)
    before = integers(tracked)
    trackers: list[Any] = list(tracked.trackers)
    for tracker in trackers:
        pattern = torch.arange(tracker.frozen.numel()) % 3 > 0
        tracker.frozen.copy_(pattern.reshape(tracker.frozen.shape))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in qat_model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(0.3 * noise * parameter.abs().mean().clamp_(min=0.1))
        for norm in ("model.1", "model.4"):
            qat_model.get_submodule(norm).running_var.mul_(1.3)  # type: ignore[operator]
    moved = integers(tracked)
    tracked.update(0)
    for old, new, tracker, noisy in zip(before, integers(tracked), trackers, moved, strict=True):
        assert torch.equal(new[tracker.frozen], old[tracker.frozen])
        assert torch.equal(new[~tracker.frozen], noisy[~tracker.frozen])
    assert any(not torch.equal(old, noisy) for old, noisy in zip(before, moved, strict=True))


def test_weights_that_turn_back_are_found_and_frozen() -> None:
    """The first weight of a layer jumps by a level at every step."""
    qat_model = captured()
    tracked = Oscillations(qat_model, "freeze", 1000)
    weight = qat_model.get_parameter("model.8.weight")
    scale = float(qat_model.quantization.scales().weights[-3].detach())
    levels: set[int] = set()
    tracker: Any = tracked.trackers[-1]
    for step in range(20):
        with torch.no_grad():
            weight[0, 0] += scale * (1 if step % 2 else -1)
        tracked.update(step)
        levels.add(int(integers(tracked)[-1][0, 0]))
    assert len(levels) == 2
    assert bool(tracker.frozen[0, 0])
    assert int(tracker.frozen.sum()) == 1
    assert int(integers(tracked)[-1][0, 0]) == int(tracker.level[0, 0])


def test_dampening_pulls_weights_to_the_middle_of_their_bins() -> None:
    def distance(strength: float) -> float:
        qat_model = captured()
        tracked = Oscillations(qat_model, "dampen", 1)
        weights = [qat_model.get_parameter(f"model.{n}.weight") for n in (0, 3, 8)]
        optimizer = torch.optim.SGD(weights, lr=strength)
        for _ in range(20):
            optimizer.zero_grad()
            penalty: Any = tracked.penalty(1)
            penalty.backward()
            optimizer.step()
        with torch.no_grad():
            return float(tracked.penalty(1))

    assert distance(10.0) < 0.9 * distance(0.0)
    tracked = Oscillations(captured(), "dampen", 8)
    with torch.no_grad():
        assert float(tracked.penalty(0)) == 0.0
        assert float(tracked.penalty(4)) < float(tracked.penalty(8))


@pytest.mark.parametrize("kind", ["track", "dampen", "freeze"])
def test_finetune_and_resume(kind: str, tmp_path: Any) -> None:
    def trained(batches: Any, checkpoint: Any = None, oscillation: Any = kind) -> Any:
        qat_model = captured()
        given: dict[str, Any] = {"oscillation": oscillation, "checkpoint": checkpoint, **QUICK}
        return qat_model, uqfc.finetune(qat_model, batches, **given)

    unbroken, result = trained(loader())
    share = result.history[-1].oscillating
    assert share is not None
    assert 0 <= share <= 1
    plain, without = trained(loader(), oscillation=None)
    assert without.history[-1].oscillating is None
    if kind != "freeze":  # few weights turn back in six steps
        assert same_state(plain, unbroken) == (kind == "track")
    with pytest.raises(Interrupted):  # the first epoch takes 3 + 2 batches
        trained(Interrupting(loader(), 6), tmp_path / "training.pt")
    resumed, again = trained(loader(), tmp_path / "training.pt")
    assert again == result
    assert same_state(resumed, unbroken)


def test_other_kinds_are_refused() -> None:
    with pytest.raises(UqfcError, match="oscillation: 'damp'; accepted: track, dampen, freeze"):
        uqfc.finetune(model(), loader(), oscillation="damp", **QUICK)
