"""Against a per-weight loop in Python, on sequences made by hand and at random."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uqfc.errors import UqfcError

torch = pytest.importorskip("torch")

from uqfc.qat.estimators import quantize  # noqa: E402 # after the skip
from uqfc.qat.oscillation import OscillationTracker, dampening_loss  # noqa: E402


def tracked(sequence: Any, **options: Any) -> OscillationTracker:
    steps = torch.as_tensor(sequence, dtype=torch.int8)
    tracker = OscillationTracker(steps[0], **options)
    for q in steps[1:]:
        tracker.update(q)
    return tracker


def reference(levels: list[int], momentum: float, threshold: float) -> tuple[float, float, Any]:
    """(frequency, average, frozen level or None) of one weight."""
    frequency, average, last, frozen = 0.0, float(levels[0]), 0, None
    for before, now in itertools.pairwise(levels):
        sign = int(np.sign(now - before))
        oscillates = sign != 0 and last not in {0, sign}
        last = sign or last
        frequency = momentum * oscillates + (1 - momentum) * frequency
        average = momentum * now + (1 - momentum) * average
        if frozen is None and frequency > threshold:
            frozen = round(average)
    return frequency, average, frozen


def test_a_sequence_by_hand() -> None:
    sequence = [
        # climbs, oscillates, turns once, rests, jumps by two and back
        [0, 3, 5, -1, 0],
        [1, 4, 5, -1, 2],
        [2, 3, 4, -1, 0],
        [3, 4, 4, -1, 2],
        [4, 3, 5, -1, 0],
    ]
    tracker = tracked(sequence, momentum=0.5)
    # Oscillations at steps (of 4): none; 2, 3, 4; 4; none; 2, 3, 4.
    assert tracker.frequency.tolist() == [0.0, 0.875, 0.5, 0.0, 0.875]
    assert tracker.average.tolist() == [3.0625, 3.3125, 4.625, -1.0, 0.625]
    assert tracker.direction.tolist() == [1, -1, 1, 0, -1]
    assert not tracker.frozen.any()
    assert tracker.oscillating(0.6) == pytest.approx(0.4)


def test_freezing_is_for_good_and_at_the_average() -> None:
    tracker = tracked([[3, 0], [4, 0], [3, 0], [4, 0]], momentum=0.5, threshold=0.6)
    # Frequencies 0, 0.5, 0.75: frozen at the last step, average (3 -> 3.5 -> 3.25 -> 3.625).
    assert tracker.frozen.tolist() == [True, False]
    assert tracker.level.tolist()[0] == 4
    for _ in range(9):
        tracker.update(torch.tensor([-8, 0], dtype=torch.int8))
    assert tracker.level.tolist()[0] == 4
    assert tracker.oscillating() == 0.0


@given(
    st.lists(st.lists(st.integers(-8, 7), min_size=3, max_size=3), min_size=2, max_size=18),
    st.sampled_from([0.5, 0.6, 0.9]),
)
def test_the_definition(sequence: list[list[int]], threshold: float) -> None:
    """Exactly: 17 halvings of an integer below 8 need 21 bits."""
    tracker = tracked(sequence, momentum=0.5, threshold=threshold)
    for i in range(3):
        frequency, average, frozen = reference([s[i] for s in sequence], 0.5, threshold)
        assert tracker.frequency[i].item() == frequency
        assert tracker.average[i].item() == average
        assert tracker.frozen[i].item() == (frozen is not None)
        if frozen is not None:
            assert tracker.level[i].item() == frozen


@given(st.integers(0, 2**32 - 1), st.sampled_from([(0, 15), (-127, 127)]))
def test_held_weights_are_quantized_to_their_levels(seed: int, levels: tuple[int, int]) -> None:
    rng = np.random.default_rng(seed)
    scale = torch.from_numpy(np.exp2(rng.uniform(-20, 20, 4)).astype(np.float32))
    zero_point = torch.from_numpy(rng.integers(*levels, 4, endpoint=True).astype(np.int32))
    frozen = torch.from_numpy(rng.integers(*levels, (4, 3), endpoint=True).astype(np.int16))
    weight = torch.nn.Parameter(torch.randn(4, 3))
    before = weight.detach().clone()
    tracker = OscillationTracker(frozen)
    tracker.frozen[:, 1] = True
    tracker.hold(weight, scale, zero_point, axis=0)
    _, q = quantize(weight, scale, zero_point, *levels, axis=0)
    assert torch.equal(q[:, 1].to(torch.int16), frozen[:, 1])
    assert torch.equal(weight.detach()[:, ::2], before[:, ::2])


def test_training_is_damped_and_frozen() -> None:
    """A weight whose optimum lies between two levels oscillates; held, it no longer does."""
    zero = torch.tensor(0, dtype=torch.int32)
    scale = torch.tensor(1.0)
    weight = torch.nn.Parameter(torch.tensor([1.4, 3.0]))
    tracker = OscillationTracker(torch.tensor([1, 3]), momentum=0.1, threshold=0.3)
    optimizer = torch.optim.SGD([weight], lr=0.3)
    seen = []
    for _ in range(60):
        real, q = quantize(weight, scale, zero, -8, 7, "identity")
        seen.append(q.tolist())
        tracker.update(q)
        optimizer.zero_grad()
        ((real - torch.tensor([1.5, 3.0])) ** 2).sum().backward()
        optimizer.step()
        tracker.hold(weight, scale, zero)
    assert len({s[0] for s in seen[:10]}) == 2
    assert len({s[0] for s in seen[-20:]}) == 1
    assert tracker.frozen.tolist() == [True, False]


def test_dampening_loss_is_the_papers() -> None:
    rng = np.random.default_rng(1)
    weight = rng.normal(0, 2, (3, 50)).astype(np.float32)
    scale = np.array([0.25, 0.5, 1.0], np.float32)
    zero = np.array([1, -2, 0], np.int32)
    leaf = torch.from_numpy(weight).requires_grad_()
    steps = torch.from_numpy(scale).requires_grad_()
    w_hat, _ = quantize(leaf, steps, torch.from_numpy(zero), -8, 7, axis=0)
    loss = dampening_loss(leaf, w_hat, steps, torch.from_numpy(zero), -8, 7, axis=0)
    loss.backward()
    low, high = ((end - zero) * scale for end in (-8, 7))
    clipped = np.clip(weight, low[:, None], high[:, None])
    error = clipped.astype(np.float64) - w_hat.detach().numpy()
    assert loss.item() == pytest.approx((error**2).sum(), rel=1e-5)  # 150 float32 additions
    inside = (weight >= low[:, None]) & (weight <= high[:, None])
    np.testing.assert_allclose(leaf.grad.numpy(), 2 * error * inside, atol=1e-6)
    assert steps.grad is None


def test_state_is_restored() -> None:
    tracker = tracked([[3, 0], [4, 0], [3, 0], [4, 0]], momentum=0.5, threshold=0.6)
    other = OscillationTracker(torch.tensor([0, 0]), momentum=0.5, threshold=0.6)
    other.load_state_dict(tracker.state_dict())
    for one in (tracker, other):
        one.update(torch.tensor([5, 1]))
    assert all(torch.equal(a, b) for a, b in zip(tracker.buffers(), other.buffers(), strict=True))


def test_a_wrong_momentum_is_named() -> None:
    with pytest.raises(UqfcError, match=r"momentum is 1\.5"):
        OscillationTracker(torch.tensor([0]), momentum=1.5)
