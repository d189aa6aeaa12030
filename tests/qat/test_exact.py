"""Products, sums and tables of quantized values: the bits of ``numerics``, gradients of reals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from tests.qat.test_rounding import SCALES, scheme  # noqa: E402 - torch first
from uqfc import numerics  # noqa: E402
from uqfc.dialects import nn  # noqa: E402
from uqfc.dialects.tensors import ui8  # noqa: E402
from uqfc.numerics import Activation  # noqa: E402
from uqfc.passes.support.integer import elementwise  # noqa: E402
from uqfc.passes.support.integer.values import Affine, Quantized  # noqa: E402
from uqfc.qat.exact import (  # noqa: E402
    Exact,
    ExactProduct,
    centred,
    integers,
    multiplier,
    table,
)
from uqfc.qat.values import Scheme, Value  # noqa: E402

BYTES = st.integers(0, 255)
FUNCTIONS = [
    Activation("sigmoid"),
    Activation("tanh"),
    Activation("silu"),
    Activation("gelu"),
    Activation("hard_swish"),
    Activation("hard_sigmoid", (0.2, 0.5)),
    Activation("leaky_relu", (0.1,)),
    Activation("leaky_relu", (0.01,)),
    Activation("elu", (0.7,)),
    Activation("relu"),
    Activation("clip", (-0.3, 0.7)),
]


def value(q: Any, of: Scheme) -> Value:
    """What a point makes of these integers."""
    level = torch.as_tensor(q, dtype=torch.uint8)
    return Value((level.float() - of.zero_point) * of.scale, level, of)


@given(st.lists(st.floats(2.0**-60, 2.0**60, width=32), min_size=1, max_size=3), SCALES)
def test_multipliers_have_the_bits_of_numerics(factors: list[float], over: float) -> None:
    tensors = [torch.tensor(f, dtype=torch.float32) for f in factors]
    wanted = numerics.multiplier(*factors, over=over)
    assert multiplier(*tensors, over=torch.tensor(over, dtype=torch.float32)).numpy() == wanted
    assert multiplier(*tensors, over=over).numpy() == wanted


@given(SCALES, BYTES)
def test_integers_come_back_from_reals(scale: float, zero_point: int) -> None:
    """``(q - z) * s / s`` differs from an integer below 256 by less than 2**-15."""
    of = scheme(scale, zero_point)
    given_ = value(np.arange(256), of)
    moved = Value(given_.real, None, of)
    assert torch.equal(integers(moved), given_.q)
    assert torch.equal(centred(moved), torch.arange(256.0) - zero_point)


@given(st.sampled_from(FUNCTIONS), SCALES, BYTES, st.floats(2.0**-12, 2.0, width=32), BYTES)
def test_tables_are_those_of_the_deployed_network(
    function: Activation, from_scale: float, from_zero: int, scale: float, zero_point: int
) -> None:
    source = Affine(float(np.float32(from_scale)), from_zero)
    target = Affine(float(np.float32(scale)), zero_point)
    constant, _ = elementwise.table(Quantized(byte_value(), source), target, function)
    assert isinstance(constant, nn.ConstantOp)
    of = scheme(from_scale, from_zero)
    levels = table(value(np.arange(256), of), torch.tensor(scale), zero_point, 255, function)
    np.testing.assert_array_equal(levels.numpy() + zero_point, constant.array)


def byte_value() -> Any:
    return nn.ConstantOp(np.zeros(256, np.uint8), ui8).result


def small(seed: int, *shape: int) -> Any:
    """Integers of at most 7 as float32."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-7, 8, shape, generator=generator).float()


@settings(max_examples=30)
@given(st.integers(0, 999), st.sampled_from([(2, 3, 4, 5), (2, 1, 1, 5), (1, 1, 4, 1)]))
def test_products(seed: int, shape: tuple[int, ...]) -> None:
    """Gradients are exact: integers below 2**12, divided by a power of two."""
    a = small(seed, 2, 3, 4, 5).requires_grad_()
    b = small(seed + 1, *shape).requires_grad_()
    left, right, g = (
        small(seed + 2, 2, 3, 4, 5),
        small(seed + 3, *shape),
        small(seed + 4, 2, 3, 4, 5),
    )
    factor, unit = torch.tensor(0.3), torch.tensor(0.25)
    y = ExactProduct.apply(a, b, left, right, factor, unit)
    wanted = (left * right).numpy() * np.float32(0.3)
    np.testing.assert_array_equal(y.detach().numpy(), wanted, strict=True)
    y.backward(g)
    exact = torch.autograd.grad((a * b / unit), (a, b), g)
    assert a.grad is not None
    assert b.grad is not None
    assert torch.equal(a.grad, exact[0])
    assert torch.equal(b.grad, exact[1])


def test_an_exact_value_gives_its_gradient_to_the_real_one() -> None:
    real = small(1, 3, 4).requires_grad_()
    exact, g = small(2, 3, 4) + 0.125, small(3, 3, 4)
    y = Exact.apply(real, exact, torch.tensor(0.5))
    assert torch.equal(y, exact)
    y.backward(g)
    assert real.grad is not None
    assert torch.equal(real.grad, g / 0.5)
