from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from uqfc.calibration import activation_parameters, quantize_weights
from uqfc.errors import CalibrationError
from uqfc.numerics import F32

torch = pytest.importorskip("torch")

from uqfc.qat.scales import (  # noqa: E402 # after the skip
    HIGHEST_LOG2,
    LOWEST_LOG2,
    activation_observer,
    log2_of,
    observed_parameters,
    power_of_two,
    scale_of,
    scales_of,
    weight_parameters,
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
    parts = scales_of([torch.from_numpy(exponents[:1].copy())[0], torch.from_numpy(exponents[1:])])
    assert [p.shape for p in parts] == [(), (len(exponents) - 1,)]
    assert np.array_equal(np.concatenate([p.numpy().reshape(-1) for p in parts]), together)


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
    assert scales_of([]) == []


@given(st.floats(2.0**-64, 2.0**126, width=32))
def test_logarithm_and_back(scale: float) -> None:
    back = float(scale_of(log2_of(scale)))
    assert abs(back / scale - 1) <= (1 + abs(math.log2(scale))) * 2.0**-24
    assert float(scale_of(log2_of(2.0 ** math.floor(math.log2(scale))))) <= scale


@given(hnp.arrays(np.float32, st.integers(1, 9), elements=st.floats(-20, 20, width=32)))
def test_gradient_is_scale_times_ln2(exponents: F32) -> None:
    parameter = torch.from_numpy(exponents).requires_grad_()
    scale = scale_of(parameter)
    grad = torch.linspace(-1, 2, len(exponents))
    scale.backward(grad)
    wanted = grad.double() * scale.detach().double() * math.log(2)
    # Two products and ln 2 itself are rounded.
    assert torch.all((parameter.grad - wanted).abs() <= 3 * 2.0**-24 * wanted.abs())


@given(st.integers(0, 2**32 - 1), st.sampled_from([None, 0, 1]), st.booleans())
def test_weights_start_where_the_compiler_would(
    seed: int, axis: int | None, symmetric: bool
) -> None:
    weight = np.random.default_rng(seed).normal(0, 0.1, (4, 6)).astype(np.float32)
    levels = (-8, 7) if symmetric else (0, 15)
    log2_scale, zero_point = weight_parameters(
        torch.from_numpy(weight), *levels, axis=axis, symmetric=symmetric
    )
    found = quantize_weights(weight, *levels, axis=axis, symmetric=symmetric, method="mse")
    assert np.array_equal(zero_point.numpy(), found.zero_point)
    assert zero_point.dtype == torch.int32
    assert log2_scale.shape == found.scale.shape
    np.testing.assert_allclose(scale_of(log2_scale).numpy(), found.scale, rtol=2.0**-18)


def test_activations_start_where_an_observer_says() -> None:
    values = np.random.default_rng(3).normal(1, 2, 5000).astype(np.float32)
    observer = activation_observer(0, 255)
    observer.update(values)
    log2_scale, zero_point = observed_parameters(observer, 0, 255)
    wanted = activation_parameters(*observer.range())
    assert zero_point.item() == wanted.zero_point
    assert float(scale_of(log2_scale)) == pytest.approx(wanted.scale, rel=2.0**-20)
    with pytest.raises(CalibrationError, match="'q3'"):
        observed_parameters(activation_observer(0, 15), 0, 15, name="q3")
