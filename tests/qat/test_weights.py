"""Weights in training are what the compiler stores; gradients against formulas in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from uqfc.calibration import binary_weights, quantize_weights, signs, ternary_weights
from uqfc.dialects.quant.types import check_fits, check_params
from uqfc.errors import CalibrationError, UqfcError
from uqfc.numerics import F32, dequantize, quantize

torch = pytest.importorskip("torch")

from uqfc.qat.binarize import binarize  # noqa: E402 # after the skip
from uqfc.qat.estimators import POLYNOMIAL_COEFFICIENT, Estimator  # noqa: E402
from uqfc.qat.weights import WeightQuantizer, weight_type  # noqa: E402

KINDS = {
    ("int8", True): ("i8", -127, 127),
    ("int8", False): ("u8", 0, 255),
    ("int4", False): ("u4", 0, 15),
    ("int4", True): ("i4", -8, 7),
    ("ternary", True): ("i2", -1, 1),
    ("binary", True): ("i2", -1, 1),
}
SHAPES = hnp.array_shapes(min_dims=2, max_dims=4, max_side=5)
WEIGHTS = hnp.arrays(np.float32, SHAPES, elements=st.floats(-100, 100, width=32))
KIND = st.sampled_from(list(KINDS))
GRANULARITY = st.sampled_from(["channel", "tensor", "per_channel", "per_tensor"])


def tensor(array: Any) -> Any:
    return torch.from_numpy(np.array(array))


@given(WEIGHTS, WEIGHTS, KIND, GRANULARITY, st.sampled_from([None, *Estimator]))
def test_export_is_what_training_computed(
    first: F32, later: F32, kind: tuple[str, bool], granularity: str, estimator: Any
) -> None:
    """Also when weights and scales have moved since the scales were chosen."""
    dtype, symmetric = kind
    config = {"symmetric": symmetric, "granularity": granularity}
    quantizer = WeightQuantizer(tensor(first), dtype, config, estimator=estimator)
    with torch.no_grad():
        quantizer.scale.change.add_(0.37)
    weight = np.resize(later, first.shape)
    w_hat, q = quantizer(tensor(weight))
    params, integers = quantizer.export(tensor(weight))
    check_params(params)
    check_fits(params, weight.shape)
    assert (params.storage, params.qmin, params.qmax) == KINDS[kind]
    assert params.axis == (0 if "channel" in granularity else None)
    assert np.array_equal(integers, q.numpy())
    scale, zero_point = params.broadcast(weight.shape)
    if dtype == "binary":
        assert np.array_equal(integers, signs(weight))
    else:
        expected = quantize(weight, scale, zero_point, params.qmin, params.qmax)
        assert np.array_equal(integers, expected)
    assert np.array_equal(
        w_hat.detach().numpy(), dequantize(integers.astype(np.int32), scale, zero_point)
    )


@given(WEIGHTS, KIND, st.booleans())
def test_scales_start_with_the_least_squared_error(
    weight: F32, kind: tuple[str, bool], per_channel: bool
) -> None:
    dtype, symmetric = kind
    axis = 0 if per_channel else None
    config = {"symmetric": symmetric, "granularity": "channel" if per_channel else "tensor"}
    quantizer = WeightQuantizer(tensor(weight), dtype, config)
    _, qmin, qmax = KINDS[kind]
    if dtype in {"ternary", "binary"}:
        found = {"ternary": ternary_weights, "binary": binary_weights}[dtype](weight, axis)
    else:
        found = quantize_weights(weight, qmin, qmax, axis=axis, symmetric=symmetric, method="mse")
    assert np.array_equal(quantizer.zero_point.numpy(), found.zero_point)
    rows = weight.reshape(len(weight) if per_channel else 1, -1)
    used = np.any(rows, axis=1).reshape(found.scale.shape)
    scale = quantizer.scale().detach().numpy()
    # log2_of and scale_of: |log2 scale| below 150 here, but scales are clamped to 2**-64.
    expected = np.maximum(found.scale, np.float32(2.0**-64))
    np.testing.assert_allclose(scale[used], expected[used], rtol=151 * 2.0**-24)
    assert np.isfinite(scale).all()
    assert (scale > 0).all()


def test_channels_of_zeros_take_a_usual_scale() -> None:
    weight = torch.tensor([[0.0, 0.0], [1.0, -1.0], [4.0, 4.0]])
    assert WeightQuantizer(weight, "ternary").scale().tolist() == [2.0, 1.0, 4.0]
    assert WeightQuantizer(weight, "binary").scale().tolist() == [2.0 / 256, 1.0, 4.0]
    assert WeightQuantizer(torch.zeros(2, 3), "int8").scale().tolist() == [2.0**-24] * 2


@given(
    hnp.arrays(np.float32, (3, 4), elements=st.floats(width=32)),
    hnp.arrays(np.float32, (3,), elements=st.floats(2.0**-60, 2.0**60, width=32)),
)
def test_binary_weights_have_no_zero(weight: F32, scale: F32) -> None:
    real, q = binarize(tensor(weight), tensor(scale), axis=0)
    assert q.dtype == torch.int8
    assert np.array_equal(q.numpy(), signs(weight))
    assert np.array_equal(
        real.numpy(), dequantize(signs(weight), scale[:, None], np.zeros(1, np.int32))
    )


@pytest.mark.parametrize("estimator", list(Estimator))
@pytest.mark.parametrize("axis", [None, 1])
def test_gradients_of_binary_weights(estimator: Estimator, axis: int | None) -> None:
    rng = np.random.default_rng(5)
    scale = np.array([0.25] if axis is None else [0.5, 0.25, 1.0, 2.0], np.float32)
    v = rng.uniform(-3, 3, (6, 4)).astype(np.float32)
    v[0] = [-2, 2, -1, 1]  # the ends are outside
    weight = (v * scale).astype(np.float32)  # exact: powers of two
    grad = rng.normal(size=weight.shape).astype(np.float32)
    given_weight, given_scale = tensor(weight).requires_grad_(), tensor(scale).requires_grad_()
    real, _ = binarize(given_weight, given_scale, estimator, axis=axis, gradient_scale=0.5)
    real.backward(tensor(grad))
    q = np.where(v < 0, -1.0, 1.0)
    c = POLYNOMIAL_COEFFICIENT
    to_weight = {
        Estimator.IDENTITY: np.ones_like(v),
        Estimator.CLIPPED: np.abs(v) < 2,
        Estimator.LSQ: np.abs(v) < 1,
        Estimator.POLYNOMIAL: (np.abs(v) < 2) * (1 + c * (v - q)),
    }[estimator]
    # Three float32 roundings.
    np.testing.assert_allclose(given_weight.grad.numpy(), to_weight * grad, rtol=3 * 2.0**-24)
    wanted = 0.5 * (grad.astype(np.float64) * q).sum(axis=0 if axis == 1 else None)
    # Sums of at most 24 terms below 4 in float32.
    np.testing.assert_allclose(given_scale.grad.numpy(), np.atleast_1d(wanted), atol=1e-4)


@pytest.mark.parametrize("dtype", ["int8", "int4", "ternary", "binary"])
def test_gradient_descent_learns_weights_and_scales(dtype: str) -> None:
    """Quantized weights approach a target that is on another grid than where they started."""
    generator = torch.Generator().manual_seed(1)
    target = torch.randint(0, 2, (4, 32), generator=generator) * 0.6 - 0.3
    weight = (target * 0.3 + torch.randn(4, 32, generator=generator) * 0.05).requires_grad_()
    quantizer = WeightQuantizer(weight, dtype)
    optimizer = torch.optim.SGD([weight, *quantizer.parameters()], lr=0.05)
    losses = []
    for _ in range(300):
        optimizer.zero_grad()
        w_hat, _ = quantizer(weight)
        loss = ((w_hat - target) ** 2).sum()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 100
    assert quantizer.scale.change.abs().min() > 0


def test_quantizers_are_restored() -> None:
    weight = torch.randn(3, 5, generator=torch.Generator().manual_seed(2))
    one, other = WeightQuantizer(weight, "int4"), WeightQuantizer(weight * 3 + 1, "int4")
    assert set(one.state_dict()) == {"scale.initial", "scale.change", "zero_point"}
    other.load_state_dict(one.state_dict())
    assert torch.equal(other(weight)[1], one(weight)[1])
    other.reset(weight * 2)
    assert torch.equal(other(weight * 2)[1], one(weight)[1])


@pytest.mark.parametrize(
    ("dtype", "config", "message"),
    [
        ("int3", {}, "'features.3': weight dtype 'int3'; accepted: int8, int4, ternary, binary"),
        ("ternary", {"symmetric": False}, "'features.3': ternary weights are symmetric"),
        ("int4", {"symmetric": "yes"}, "'features.3': symmetric is 'yes'"),
        ("int4", {"granularity": "row"}, "granularity is 'row'; accepted: channel, per_channel"),
        ("int4", {"axis": 0}, "unknown option.* axis; accepted: symmetric, granularity"),
    ],
)
def test_wrong_configurations_are_named(dtype: str, config: Any, message: str) -> None:
    with pytest.raises(UqfcError, match=message):
        weight_type(dtype, config, "features.3")


def test_weights_that_are_not_finite_are_named() -> None:
    with pytest.raises(CalibrationError, match="'head'"):
        WeightQuantizer(torch.tensor([[1.0, float("nan")]]), "int8", layer="head")
