"""Forward against ``uqfc.numerics`` to the bit; gradients against formulas in NumPy float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from uqfc import numerics
from uqfc.numerics import F32, F64, I32

torch = pytest.importorskip("torch")

from uqfc.qat.estimators import (  # noqa: E402 # after the skip
    POLYNOMIAL_COEFFICIENT,
    Estimator,
    lsq_gradient_scale,
    quantize,
)

DEVICES = [
    "cpu",
    pytest.param(
        "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
    ),
]
RANGES = [(0, 255), (-127, 127), (-128, 127), (0, 15), (-8, 7), (-1, 1), (0, 1), (3, 200)]
ANY_FLOAT = st.floats(width=32)  # NaN, infinities, denormals, both zeros
SCALES = st.floats(float(np.float32(2.0**-140)), 2.0**120, width=32)
SENSIBLE = st.floats(2.0**-20, 2.0**20, width=32)


@st.composite
def problems(draw: st.DrawFn) -> tuple[F32, F32, I32, int, int, int | None]:
    """(x, scale, zero_point, qmin, qmax, axis): any floats, and many multiples of half a step."""
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=4, max_side=5))
    qmin, qmax = draw(st.sampled_from(RANGES))
    axis = draw(st.none() | st.integers(-len(shape), len(shape) - 1))
    count = () if axis is None else (shape[axis],)
    scale = draw(hnp.arrays(np.float32, count, elements=draw(st.sampled_from([SCALES, SENSIBLE]))))
    zero_point = draw(hnp.arrays(np.int32, count, elements=st.integers(qmin, qmax)))
    x = draw(hnp.arrays(np.float32, shape, elements=ANY_FLOAT))
    halves = draw(hnp.arrays(np.int32, shape, elements=st.integers(-600, 600)))
    with np.errstate(over="ignore", under="ignore"):
        ties = (halves / np.float32(2)).astype(np.float32) * spread(scale, shape, axis)
    chosen = draw(hnp.arrays(np.bool_, shape))
    return np.where(chosen, ties, x), scale, zero_point, qmin, qmax, axis


def spread(p: Any, shape: tuple[int, ...], axis: int | None) -> Any:
    view = [1] * len(shape)
    if axis is not None:
        view[axis] = shape[axis]
    return np.broadcast_to(p.reshape(view), shape)


def tensor(array: Any) -> Any:
    return torch.from_numpy(np.array(array))


@pytest.mark.parametrize("estimator", list(Estimator))
@given(problem=problems())
def test_forward_is_the_contract(estimator: Estimator, problem: Any) -> None:
    x, scale, zero_point, qmin, qmax, axis = problem
    real, q = quantize(
        tensor(x), tensor(scale), tensor(zero_point), qmin, qmax, estimator, axis=axis
    )
    scales, zeros = spread(scale, x.shape, axis), spread(zero_point, x.shape, axis)
    expected = numerics.quantize(x, scales, zeros, qmin, qmax)
    assert q.dtype == (torch.uint8 if qmin >= 0 else torch.int8)
    assert np.array_equal(q.numpy(), expected)
    dequantized = numerics.dequantize(expected, scales, zeros)
    assert real.dtype == torch.float32
    assert np.array_equal(real.numpy().view(np.int32), dequantized.view(np.int32))  # -0 is not +0


@given(st.integers(0, 2**32 - 1), SENSIBLE)
def test_ties_around_every_level(seed: int, scale: float) -> None:
    """The neighbours of each half step, where one IEEE division decides."""
    steps = np.arange(-300, 301, dtype=np.float32) / 2
    near = (steps * np.float32(scale)).astype(np.float32)
    up, down = np.nextafter(near, np.float32(np.inf)), np.nextafter(near, np.float32(-np.inf))
    x = np.concatenate([near, up, down])
    zero: Any = np.int32(seed % 256)
    step: Any = np.float32(scale)
    real, q = quantize(tensor(x), tensor(step), tensor(zero), 0, 255)
    expected = numerics.quantize(x, step, zero, 0, 255)
    assert np.array_equal(q.numpy(), expected)
    assert np.array_equal(real.numpy(), numerics.dequantize(expected, step, zero))


@pytest.mark.parametrize("device", DEVICES)
def test_a_large_tensor_takes_the_vector_path_and_keeps_its_layout(device: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(0, 40, (4, 33, 17, 9)).astype(np.float32)
    x[0, 0, 0, :4] = np.nan, np.inf, -np.inf, -0.0
    scale: Any = np.float32(0.317)
    zero: Any = np.int32(101)
    expected = numerics.quantize(x, scale, zero, 0, 255)
    dequantized = numerics.dequantize(expected, scale, zero)
    step, point = tensor(scale).to(device), tensor(zero).to(device)
    for layout in (torch.contiguous_format, torch.channels_last):
        given_x = tensor(x).to(device).to(memory_format=layout)
        real, q = quantize(given_x, step, point, 0, 255)
        assert np.array_equal(q.cpu().numpy(), expected)
        assert np.array_equal(real.cpu().numpy().view(np.int32), dequantized.view(np.int32))
        assert real.stride() == q.stride() == given_x.stride()
    sliced = tensor(x).to(device)[:, ::2].transpose(1, 3)
    _, q = quantize(sliced, step, point, 0, 255)
    assert np.array_equal(q.cpu().numpy(), expected[:, ::2].transpose(0, 3, 2, 1))


# --- gradients -------------------------------------------------------------------------------


def formula(
    x: F32, scale: F32, zero_point: I32, levels: tuple[int, int], estimator: Estimator
) -> tuple[F64, F64]:
    """``(d real / d x, d real / d scale)`` per element, from the text of the docstrings.

    ``scale`` and ``zero_point`` have the shape of ``x``.
    """
    low, high = levels[0] - zero_point, levels[1] - zero_point
    margin = 0.0 if estimator == Estimator.LSQ else 0.5
    # The ends of the range are float32 values of x, so that equality has a meaning.
    below = x <= ((low - margin).astype(np.float32) * scale)
    above = x >= ((high + margin).astype(np.float32) * scale)
    inside = ~(below | above)
    v = x.astype(np.float64) / scale.astype(np.float64)
    rounded = np.clip(np.rint(v), low, high)
    to_scale = np.where(below, low, np.where(above, high, rounded - v))
    if estimator == Estimator.IDENTITY:
        return np.ones_like(v), to_scale
    if estimator == Estimator.POLYNOMIAL:
        return np.where(inside, 1 + 2 * POLYNOMIAL_COEFFICIENT * (v - rounded), 0.0), to_scale
    return inside.astype(np.float64), to_scale


@st.composite
def gradient_problems(draw: st.DrawFn) -> Any:
    """Values up to some steps beyond either end; half of them on multiples of half a step."""
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=4, max_side=6))
    qmin, qmax = draw(st.sampled_from(RANGES))
    axis = draw(st.none() | st.integers(-len(shape), len(shape) - 1))
    count = () if axis is None else (shape[axis],)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale = np.exp2(rng.uniform(-8, 4, count)).astype(np.float32)
    zero_point = np.asarray(rng.integers(qmin, qmax, count, endpoint=True), np.int32)
    scales, zeros = spread(scale, shape, axis), spread(zero_point, shape, axis)
    steps = rng.uniform(qmin - 4.0, qmax + 4.0, shape)
    # The middle between two levels is a jump of the round: kept away from, but for the exact ends.
    steps = np.where(np.abs(steps % 1 - 0.5) < 0.01, np.floor(steps), steps)
    ends = rng.choice([qmin - 0.5, qmin, qmax, qmax + 0.5], shape)
    steps = np.where(rng.random(shape) < 0.3, ends, steps)
    x = ((steps - zeros).astype(np.float32) * scales).astype(np.float32)
    grad = rng.normal(0, 1, shape).astype(np.float32)
    return x, scale, zero_point, (qmin, qmax), axis, grad


@pytest.mark.parametrize("estimator", list(Estimator))
@given(problem=gradient_problems())
def test_gradients_are_the_formula(estimator: Estimator, problem: Any) -> None:
    x, scale, zero_point, levels, axis, grad = problem
    given_x, given_scale, given_zero = tensor(x), tensor(scale), tensor(zero_point)
    given_x.requires_grad_()
    given_scale.requires_grad_()
    real, q = quantize(
        given_x,
        given_scale,
        given_zero,
        levels[0],
        levels[1],
        estimator,
        axis=axis,
        gradient_scale=0.25,
    )
    assert not q.requires_grad
    real.backward(tensor(grad))
    scales, zeros = spread(scale, x.shape, axis), spread(zero_point, x.shape, axis)
    to_x, to_scale = formula(x, scales, zeros, levels, estimator)
    # v is known to |v| * 2**-24 (its division) plus as much (real's multiplication): with
    # |v| < 2**9 and |2c| < 1, to 2**-14; the products with the gradient add less than 2**-22.
    tolerance = 2.0**-14
    assert np.all(np.abs(given_x.grad.numpy() - to_x * grad) <= tolerance * np.abs(grad))
    terms = 0.25 * to_scale * grad
    kept = tuple(i for i in range(x.ndim) if axis is None or i != axis % x.ndim)
    wanted, size = terms.sum(axis=kept), (np.abs(terms) + tolerance * np.abs(grad)).sum(axis=kept)
    # A float32 sum of n terms is off by at most n * 2**-24 times the sum of their sizes, n < 2**11;
    # a few more roundings per term: 2**-12.
    error = tolerance * np.abs(grad).sum(axis=kept) + 2.0**-12 * size
    assert given_scale.grad.shape == given_scale.shape
    assert np.all(np.abs(given_scale.grad.numpy() - wanted) <= error)


def test_polynomial_is_the_derivative_of_its_surrogate() -> None:
    """By central differences of ``f(v) = v + c·(round(v) - v)²``, away from the thresholds."""
    v = torch.linspace(-3.45, 3.45, 70, dtype=torch.float64)
    v = v[(v % 1 - 0.5).abs() > 1e-3]
    h = 1e-6

    def surrogate(u: Any) -> Any:
        return u + POLYNOMIAL_COEFFICIENT * (u.round() - u) ** 2

    slope = (surrogate(v + h) - surrogate(v - h)) / (2 * h)
    x = v.float().requires_grad_()
    real, _ = quantize(
        x, torch.tensor(1.0), torch.tensor(0, dtype=torch.int32), -8, 7, "polynomial"
    )
    real.sum().backward()
    # f is quadratic, so its central difference is exact up to cancellation, 2**-53 * 8 / h, and x
    # is v rounded to float32: both below 1e-6.
    assert torch.all((x.grad.double() - slope).abs() < 1e-6)
    assert x.grad.min() >= 1 - POLYNOMIAL_COEFFICIENT
    assert x.grad.max() <= 1 + POLYNOMIAL_COEFFICIENT


def test_lsq_gradient_scale_is_the_papers() -> None:
    x = torch.linspace(-2.0, 2.0, 50).reshape(5, 10)
    zero = torch.tensor(0, dtype=torch.int32)
    grads = []
    for gradient_scale in (None, 1.0):
        scale = torch.tensor(0.2, requires_grad=True)
        quantize(x, scale, zero, -8, 7, "lsq", gradient_scale=gradient_scale)[0].sum().backward()
        grads.append(scale.grad.item())
    assert grads[0] == pytest.approx(grads[1] / np.sqrt(50 * 7), rel=2.0**-22)  # two roundings
    assert lsq_gradient_scale(10, 127) == 1 / np.sqrt(1270)
    per_channel = torch.full((5,), 0.2, requires_grad=True)
    quantize(x, per_channel, zero, -8, 7, "lsq", axis=0)[0].sum().backward()
    assert per_channel.grad.sum().item() == pytest.approx(
        grads[1] / np.sqrt(10 * 7),
        rel=2.0**-18,  # sums in another order
    )


def test_a_saturating_identity_still_moves_the_scale_the_right_way() -> None:
    x = torch.tensor([100.0], requires_grad=True)
    scale = torch.tensor(1.0, requires_grad=True)
    real, _ = quantize(x, scale, torch.tensor(0, dtype=torch.int32), -8, 7, "identity")
    real.sum().backward()
    assert x.grad.item() == 1.0
    assert scale.grad.item() == 7.0


@pytest.mark.parametrize("device", DEVICES)
def test_layouts_and_devices_have_the_same_gradients(device: str) -> None:
    generator = torch.Generator().manual_seed(0)
    x, grad = torch.randn(2, 2, 8, 5, 6, generator=generator).mul_(3)
    found = []
    for layout, where in (
        (torch.contiguous_format, "cpu"),
        (torch.channels_last, "cpu"),
        (torch.channels_last, device),
    ):
        leaf = x.to(where).clone(memory_format=layout).requires_grad_()
        scale = torch.tensor(0.7, device=where, requires_grad=True)
        zero = torch.tensor(3, dtype=torch.int32, device=where)
        quantize(leaf, scale, zero, 0, 15, "polynomial")[0].backward(grad.to(where))
        found.append((leaf.grad.cpu(), scale.grad.cpu()))
    for to_x, to_scale in found[1:]:
        assert torch.equal(to_x, found[0][0])
        # 480 terms below 13 in another order: 480 * 13 * |grad| * 2**-24 is below 1e-2.
        assert abs(to_scale - found[0][1]) < 1e-2


def test_no_gradient_is_computed_for_what_needs_none() -> None:
    scale, zero = torch.tensor(0.5, requires_grad=True), torch.tensor(0, dtype=torch.int32)
    x = torch.randn(10)
    for estimator in Estimator:
        quantize(x, scale, zero, -8, 7, estimator)[0].sum().backward()
        assert x.grad is None
        _, q = quantize(x.clone().requires_grad_(), scale, zero, -8, 7, estimator)
        assert not q.requires_grad


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"scale": torch.tensor(1.0, dtype=torch.float64)}, TypeError, "float64"),
        ({"zero_point": torch.tensor(0)}, TypeError, "int64"),
        ({"scale": torch.tensor(1.0, device="meta")}, TypeError, "meta"),
        ({"qmax": 300}, ValueError, "-8:300"),
        ({"qmax": -8}, ValueError, "-8:-8"),
        ({"scale": torch.ones(3)}, ValueError, "3 scales"),
        ({"axis": 1}, ValueError, "1 scales and 1 zero points for 5"),
        ({"estimator": "ste"}, ValueError, "ste"),
    ],
)
def test_wrong_arguments_are_named(change: Any, error: type[Exception], message: str) -> None:
    arguments = {
        "x": torch.zeros(4, 5),
        "scale": torch.tensor(1.0),
        "zero_point": torch.tensor(0, dtype=torch.int32),
        "qmin": -8,
        "qmax": 7,
    }
    with pytest.raises(error, match=message):
        quantize(**(arguments | change))
