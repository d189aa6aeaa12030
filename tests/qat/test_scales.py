from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from uqfc.errors import CalibrationError
from uqfc.numerics import F32

torch = pytest.importorskip("torch")

from uqfc.qat.scales import (  # noqa: E402 # after the skip
    HIGHEST_LOG2,
    LOWEST_LOG2,
    STEEPEST,
    LearnedScale,
    log2_of,
    power_of_two,
    scale_of,
)

EXPONENTS = st.floats(LOWEST_LOG2, HIGHEST_LOG2, width=32)


@given(hnp.arrays(np.float32, st.integers(1, 40), elements=EXPONENTS))
def test_scale_is_the_nearest_float32(exponents: F32) -> None:
    """Against an exact product of square roots of two, to 2**-80."""
    scale = scale_of(torch.from_numpy(exponents))
    assert scale.dtype == torch.float32
    for exponent, value in zip(exponents.tolist(), scale.tolist(), strict=True):
        wanted = exact_power(exponent)
        ulp = Fraction(math.ulp(value)) * 2**29  # of float32: 29 bits fewer than of float64
        # Half a float32 ulp, and the float64 result's own error of some 2**-51.
        assert abs(Fraction(value) - wanted) <= ulp * (Fraction(1, 2) + Fraction(1, 2**26))


def exact_power(exponent: float) -> Fraction:
    """2 ** exponent as the product of 2 ** (2 ** -k) over its fraction's bits, 120 bits each."""
    whole = math.floor(exponent)
    fraction, power, root = Fraction(exponent) - whole, Fraction(1), Fraction(2)
    while fraction:
        root = Fraction(math.isqrt(int(root * 2**240)), 2**120)
        fraction *= 2
        if fraction >= 1:
            fraction -= 1
            power *= root
        power = Fraction(int(power * 2**120), 2**120)
    return power * Fraction(2) ** whole


@given(hnp.arrays(np.float32, st.integers(2, 40), elements=EXPONENTS))
def test_a_scale_does_not_depend_on_its_neighbours(exponents: F32) -> None:
    together = power_of_two(exponents)
    alone = np.array([power_of_two(e) for e in exponents])
    assert np.array_equal(together, alone)


def test_integers_are_exact_and_others_clamped() -> None:
    assert power_of_two(np.array([-3, 0, 126, 127, 1e9, -65, -np.inf], np.float32)).tolist() == [
        0.125,
        1.0,
        2.0**126,
        2.0**126,
        2.0**126,
        2.0**-64,
        2.0**-64,
    ]
    with pytest.raises(CalibrationError, match="diverged"):
        power_of_two(np.array([0, np.nan], np.float32))


@given(st.floats(2.0**-64, 2.0**126, width=32))
def test_logarithm_and_back(scale: float) -> None:
    back = float(scale_of(log2_of(scale)))
    assert abs(back / scale - 1) <= (1 + abs(math.log2(scale))) * 2.0**-24
    assert float(scale_of(log2_of(2.0 ** math.floor(math.log2(scale))))) <= scale


@given(
    hnp.arrays(np.float32, st.integers(1, 9), elements=st.floats(-20, 20, width=32)), st.booleans()
)
def test_gradient_is_scale_times_ln2_or_balanced(exponents: F32, balanced: bool) -> None:
    parameter = torch.from_numpy(exponents).requires_grad_()
    scale = scale_of(parameter, balanced=balanced)
    grad = torch.linspace(-1, 2, len(exponents))
    scale.backward(grad)
    slope = scale.detach().double() * math.log(2)
    wanted = (grad / slope).clamp(-STEEPEST, STEEPEST) if balanced else grad * slope
    # Two products and ln 2 itself are rounded, and the first-order bound is a little short.
    assert torch.all((parameter.grad - wanted).abs() <= 4 * 2.0**-24 * wanted.abs())


def test_a_balanced_step_is_the_share_that_descent_on_the_scale_takes() -> None:
    scale, slope, rate = 2.0**-7, 0.005, 0.01
    parameter = torch.tensor(-7.0, requires_grad=True)
    (scale_of(parameter, balanced=True) * slope).backward()
    moved = scale_of(parameter.detach() - rate * parameter.grad).item()
    # Descent on the scale: scale - rate * slope. The exponential adds a second order term,
    # 0.0064**2 / 2 = 2e-5 of the scale.
    assert moved == pytest.approx(scale - rate * slope, rel=1e-4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_every_device_has_the_same_bits() -> None:
    exponents = torch.linspace(-64, 126, 4001)
    assert torch.equal(scale_of(exponents.cuda()).cpu(), scale_of(exponents))


def test_weight_decay_pulls_a_learned_scale_to_where_it_started() -> None:
    learned = LearnedScale(np.array([0.125, 2.0, 0.3], np.float32))
    start = learned().detach()
    assert start.tolist()[:2] == [0.125, 2.0]
    assert [name for name, _ in learned.named_parameters()] == ["change"]
    optimizer = torch.optim.SGD(learned.parameters(), lr=0.5, weight_decay=1.0)
    with torch.no_grad():
        learned.change.copy_(torch.tensor([1.0, -1.0, 0.5]))
    assert learned().tolist()[:2] == [0.25, 1.0]
    for _ in range(60):
        optimizer.zero_grad()
        (learned() * 0.0).sum().backward()
        optimizer.step()
    assert torch.equal(learned().detach(), start)  # 2**-60 of a change is no change


def test_a_learned_scale_is_restored_and_reset() -> None:
    learned, other = LearnedScale(0.3), LearnedScale(7.0)
    with torch.no_grad():
        learned.change.add_(0.7)
    other.load_state_dict(learned.state_dict())
    assert torch.equal(other(), learned())
    other.reset(0.5)
    assert other().item() == 0.5
    assert not LearnedScale(0.3, learned=False)().requires_grad
