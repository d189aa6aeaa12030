"""The end of integer ops: bits are those of ``numerics``, gradients those of the formulas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

torch = pytest.importorskip("torch")

from uqfc import numerics  # noqa: E402 - torch first
from uqfc.numerics import F32, NUMPY, Activation  # noqa: E402
from uqfc.passes.support.integer.values import Affine  # noqa: E402
from uqfc.qat.estimators import POLYNOMIAL_COEFFICIENT, Estimator  # noqa: E402
from uqfc.qat.points import Point  # noqa: E402
from uqfc.qat.rounding import ApplyActivation, RoundClamp, Rounding, limits  # noqa: E402
from uqfc.qat.values import Scheme  # noqa: E402

ESTIMATORS = st.sampled_from(list(Estimator))
ACTIVATIONS = [
    Activation("relu"),
    Activation("clip", (0.0, 6.0)),
    Activation("clip", (-1.0, 1.0)),
    Activation("clip", (0.5, 2.0)),
    Activation("hard_swish"),
    Activation("hard_sigmoid", (1.0 / 6.0, 0.5)),
    Activation("hard_sigmoid", (0.2, 0.5)),
    Activation("leaky_relu", (0.1,)),
]
CLAMPS = [None, *(a for a in ACTIVATIONS if a.bounds is not None)]
SCALES = st.floats(2.0**-20, 2.0**20, width=32)
VALUES = st.one_of(
    st.integers(-600, 600).map(lambda n: n / 2),  # integers, and ties between two
    st.floats(-300, 300, width=32),
    st.sampled_from([1e30, -1e30, np.inf, -np.inf, 1e-40, -0.0]),
)


def scheme(scale: float, zero_point: int, qmax: int = 255, symmetric: bool = False) -> Scheme:
    """A point of these parameters."""
    point = Point(0, "q0", 0, qmax, symmetric)
    zero = torch.tensor(zero_point, dtype=torch.int32)
    return Scheme(point, torch.tensor(scale, dtype=torch.float32), zero_point, zero)


@st.composite
def schemes(draw: st.DrawFn) -> Scheme:
    qmax = draw(st.sampled_from([15, 255]))
    zero_point = draw(st.one_of(st.sampled_from([0, qmax]), st.integers(0, qmax)))
    return scheme(draw(SCALES), zero_point, qmax)


# --- forward --------------------------------------------------------------------------------------


@given(schemes(), st.sampled_from(CLAMPS), st.lists(VALUES, min_size=1, max_size=40), ESTIMATORS)
def test_rounding_has_the_bits_of_numerics(
    point: Scheme, clamp: Activation | None, values: list[float], estimator: Estimator
) -> None:
    affine = Affine(float(point.scale), point.zero_point, 0, point.point.qmax)
    if clamp is not None and clamp.bounds is not None:
        affine = affine.clamped(*clamp.bounds)
    rounding = limits(point, clamp, estimator, 1)
    zero = point.zero_point
    assert (rounding.low, rounding.high) == (affine.qmin - zero, affine.qmax - zero)
    v: F32 = np.asarray(values, np.float32)
    level = numerics.round_clamped(v, rounding.low, rounding.high)
    real, q = RoundClamp.apply(torch.from_numpy(v.copy()), point.scale, rounding)
    np.testing.assert_array_equal(q.numpy(), (zero + level).astype(np.uint8), strict=True)
    wanted = numerics.dequantize(zero + level, point.scale.numpy(), np.array(zero))
    np.testing.assert_array_equal(real.numpy(), wanted, strict=True)


@given(st.sampled_from(ACTIVATIONS), st.lists(VALUES, min_size=1, max_size=40))
def test_activations_have_the_bits_of_numerics(activation: Activation, values: list[float]) -> None:
    """But for the sign of a zero, which ``assert_array_equal`` does not see, either."""
    v: F32 = np.asarray(values, np.float32)
    with np.errstate(all="ignore"):
        wanted = np.asarray(activation(NUMPY, v), np.float32)
    found = ApplyActivation.apply(torch.from_numpy(v.copy()), activation)
    np.testing.assert_array_equal(found.numpy(), wanted, strict=True)


# --- gradients ------------------------------------------------------------------------------------


def gradients(v: F32, scale: float, rounding: Rounding, g: F32) -> tuple[F32, F32]:
    """Of ``sum(g * real)`` for ``v`` and ``scale``."""
    leaf = torch.from_numpy(v.copy()).requires_grad_()
    step = torch.tensor(scale, dtype=torch.float32, requires_grad=True)
    real, _ = RoundClamp.apply(leaf, step, rounding)
    real.backward(torch.from_numpy(g))
    return found(leaf), found(step)


def found(leaf: Any) -> F32:
    assert leaf.grad is not None
    return leaf.grad.numpy()


def formulas(
    v: NDArray[np.float64], scale: float, r: Rounding, g: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float]:
    """The same, written down from the definitions, in float64.

    Inside, ``real = scale * round(x / scale)`` with ``x = v * scale``: the estimator's derivative
    for x, ``round(v) - v`` for the scale. Beyond an end of the type ``real = end * scale``, of
    which an identity estimator passes x's gradient; beyond a clamp it is constant.
    """
    half = 0.0 if r.estimator == "lsq" else 0.5
    reach_low = r.low - (0.0 if r.ends_below else half)
    reach_high = r.high + (0.0 if r.ends_above else half)
    below, above = v <= reach_low, v >= reach_high
    rounded = np.rint(np.clip(v, r.low, r.high))
    dx, ds = np.ones_like(v), rounded - v
    if r.estimator == "polynomial":
        dx += 2 * POLYNOMIAL_COEFFICIENT * (v - rounded)
    for beyond, end, clamped in ((below, r.low, r.ends_below), (above, r.high, r.ends_above)):
        dx[beyond] = 1.0 if r.estimator == "identity" and not clamped else 0.0
        ds[beyond] = 0.0 if clamped else end
    return g * dx * scale, float((g * ds).sum() * r.gradient_scale)


GRADIENTS = st.lists(
    st.tuples(st.integers(-2400, 2400).map(lambda n: n / 8), st.integers(-8, 8)), max_size=64
)
"""Values that are multiples of 1/8, and gradients that are integers."""


@st.composite
def roundings(draw: st.DrawFn) -> Rounding:
    zero = draw(st.sampled_from([0, 3, 128, 255]))
    low = draw(st.integers(-zero, 255 - zero))
    high = draw(
        st.integers(low, 255 - zero).filter(lambda n: n > low) if low < 255 - zero else st.just(low)
    )
    ends = draw(st.booleans()), draw(st.booleans())
    return Rounding(zero, low, high, *ends, draw(ESTIMATORS), 0.5)


@given(roundings(), GRADIENTS, st.sampled_from([0.25, 1.0, 8.0]))
def test_gradients_are_those_of_the_formulas(
    rounding: Rounding, values: list[tuple[float, int]], scale: float
) -> None:
    """Exact: all numbers are small multiples of 1/8, scales powers of two.

    Only the polynomial's factor is rounded: it is at most 1.1, made by a product and a sum of
    which each is rounded by 2**-24, multiplied by g <= 8 and the scale, exactly.
    """
    v, g = (
        (np.asarray(each, np.float64) for each in zip(*values, strict=True))
        if values
        else (np.zeros(0), np.zeros(0))
    )
    wanted = formulas(v, scale, rounding, g)
    dv, ds = gradients(v.astype(np.float32), scale, rounding, g.astype(np.float32))
    slack = 4 * 2.0**-24 * 1.1 * 8 * scale if rounding.estimator == "polynomial" else 0.0
    np.testing.assert_allclose(dv, wanted[0], rtol=0, atol=slack)
    assert float(ds) == wanted[1]


@given(st.sampled_from([a for a in CLAMPS if a]), SCALES, st.integers(0, 255), ESTIMATORS)
def test_a_fused_clamp_ends_the_range_where_the_type_would_not(
    clamp: Activation, scale: float, zero_point: int, estimator: Estimator
) -> None:
    rounding = limits(scheme(scale, zero_point), clamp, estimator, 1)
    assert clamp.bounds is not None
    low, high = (np.float32(b) / np.float32(scale) for b in clamp.bounds)
    assert rounding.ends_below == (low >= -zero_point)
    assert rounding.ends_above == (high <= 255 - zero_point)


def test_relu_has_no_gradient_below_zero() -> None:
    """Whatever the zero point: at 0 the end of the type is the end of the clamp."""
    for zero_point in (0, 7):
        for estimator in Estimator:
            rounding = limits(scheme(0.5, zero_point), Activation("relu"), estimator, 1)
            v = np.asarray([-3.0, -0.25, 0.75], np.float32)
            dv, _ = gradients(v, 0.5, rounding, np.ones(3, np.float32))
            assert dv[:2].tolist() == [0.0, 0.0]
            assert dv[2] > 0


SLOPES: dict[str, Any] = {
    "relu": lambda v: (v > 0) * 1.0,
    "clip": lambda v, low, high: ((v > low) & (v < high)) * 1.0,
    "hard_swish": lambda v: np.where(v <= -3, 0.0, np.where(v >= 3, 1.0, v / 3 + 0.5)),
    "hard_sigmoid": lambda v, a, b: ((v * a + b > 0) & (v * a + b < 1)) * a,
    "leaky_relu": lambda v, alpha: np.where(v > 0, 1.0, alpha),
}


@given(st.sampled_from(ACTIVATIONS), st.lists(st.floats(-8, 8, width=32), min_size=1))
def test_derivatives_of_activations(activation: Activation, values: list[float]) -> None:
    """Within 2**-21: at most four operations on numbers of at most 2, each rounded by 2**-24.

    Not within 2**-20 of a kink, where the rounding of ``v * alpha + beta`` decides.
    """
    kinks = [0.0, 3.0, -3.0, 2.5, -2.5, *(activation.bounds or ())]
    v = np.asarray([x for x in values if all(abs(x - k) > 2.0**-20 for k in kinks)], np.float32)
    leaf = torch.from_numpy(v.copy()).requires_grad_()
    ApplyActivation.apply(leaf, activation).sum().backward()
    wanted = SLOPES[activation.name](v.astype(np.float64), *activation.params)
    np.testing.assert_allclose(found(leaf), wanted, rtol=0, atol=2.0**-21)
