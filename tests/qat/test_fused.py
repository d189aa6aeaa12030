"""Quantization in one pass: the bits of the definition, the gradients of the estimators."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

torch = pytest.importorskip("torch")

from tests.qat.tiny import torch_threads  # noqa: E402 - torch first
from uqfc import numerics  # noqa: E402
from uqfc.codegen.training import CHUNK  # noqa: E402
from uqfc.numerics import ACTIVATIONS, NUMPY, Activation  # noqa: E402
from uqfc.qat.deployed import has_kernels  # noqa: E402
from uqfc.qat.estimators import Estimator, quantize  # noqa: E402
from uqfc.qat.float_ops import UNARY  # noqa: E402
from uqfc.qat.fused import Levels, can_fuse, fused_quantize  # noqa: E402

pytestmark = pytest.mark.skipif(not has_kernels(), reason="no target runs on this machine")

FUNCTIONS = [
    None,
    Activation("relu"),
    Activation("clip", (-1.0, 1.0)),
    Activation("leaky_relu", (0.125,)),
    Activation("hard_sigmoid", (0.2, 0.5)),
    Activation("hard_swish"),
]
FLOATS = st.floats(width=32) | st.integers(-40, 40).map(lambda n: n / 8)
RANGES = st.sampled_from([(0, 255), (0, 15), (-127, 127), (-1, 1)])


def activated(function: Activation | None, x: Any) -> Any:
    with np.errstate(all="ignore"):
        return x if function is None else ACTIVATIONS[function.name](NUMPY, x, *function.params)


@settings(max_examples=60)
@given(st.data(), st.sampled_from(FUNCTIONS), RANGES, st.integers(1, 3), st.booleans())
def test_forward_has_the_bits_of_numerics(
    data: st.DataObject,
    function: Activation | None,
    bounds: tuple[int, int],
    rows: int,
    per_row: bool,
) -> None:
    """NaN, infinities, ties and denormals too; rows end within vectors."""
    qmin, qmax = bounds
    columns = data.draw(st.sampled_from([1, 5, 16, 33]))
    x = data.draw(hnp.arrays(np.float32, (rows, columns), elements=FLOATS))
    count = rows if per_row else 1
    scale = np.asarray(data.draw(st.lists(st.sampled_from([0.25, 0.1, 3.0]), min_size=count,
                                          max_size=count)), np.float32)  # fmt: skip
    zeros = st.lists(st.integers(qmin, qmax), min_size=count, max_size=count)
    zero = np.asarray(data.draw(zeros), np.int32)
    how = Levels(qmin, qmax, Estimator.LSQ, 1.0, function)
    inputs, scales, zeros_ = (torch.from_numpy(a.copy()) for a in (x, scale, zero))
    real, q = fused_quantize(inputs, scales, zeros_, how)
    h = np.asarray(activated(function, x), np.float32)
    wanted = numerics.quantize(h, scale[:, None], zero[:, None], qmin, qmax)
    assert np.array_equal(q.numpy().astype(np.int32), wanted)
    restored = numerics.dequantize(wanted, scale[:, None], zero[:, None])
    assert np.array_equal(real.numpy(), restored)


@pytest.mark.parametrize("estimator", [Estimator.CLIPPED, Estimator.LSQ])
@pytest.mark.parametrize("function", FUNCTIONS, ids=str)
@pytest.mark.parametrize("columns", [7, 64, CHUNK + 17])
def test_gradients_are_those_of_the_estimators(
    columns: int, function: Activation | None, estimator: Estimator
) -> None:
    """The gradient of x to within 2**-22: the derivatives' polynomials are rounded otherwise. That
    of a scale to within 2**-14 of the sum of its terms' magnitudes: 2**12 of them, each rounded by
    2**-24 and with quotients of error 2**-24 * 255, are added up in one lane."""
    generator = torch.Generator().manual_seed(columns)
    x = torch.randn(2, columns, generator=generator) * 2
    g = torch.randn(2, columns, generator=generator)
    scale, zero = torch.tensor([0.037, 0.21]), torch.tensor([100, 3], dtype=torch.int32)
    leaves = [[t.clone().requires_grad_() for t in (x, scale)] for _ in range(2)]
    own, scales = leaves[0]
    real, _ = fused_quantize(own, scales, zero, Levels(0, 255, estimator, 0.5, function))
    h = leaves[1][0] if function is None else UNARY[function.name](leaves[1][0], *function.params)
    same, _ = quantize(h, leaves[1][1], zero, 0, 255, estimator, axis=0, gradient_scale=0.5)
    found, wanted = (
        torch.autograd.grad(y, those, g) for y, those in zip((real, same), leaves, strict=True)
    )
    assert torch.allclose(found[0], wanted[0], rtol=0, atol=2.0**-22 * float(g.abs().max()))
    magnitude = (g.abs() * 128).sum(1)
    assert torch.all((found[1] - wanted[1]).abs() <= 2.0**-14 * magnitude)


def test_threads_change_nothing() -> None:
    """Chunks are added up the same way, whoever computed them."""
    x = torch.randn(3 * CHUNK + 100, generator=torch.Generator().manual_seed(0))
    scale, zero = torch.tensor(0.02), torch.tensor(128, dtype=torch.int32)
    results: list[list[Any]] = []
    for threads in (1, 2, 3):
        leaves = [t.clone().requires_grad_() for t in (x, scale)]
        own, scales = leaves
        with torch_threads(threads):
            real, q = fused_quantize(own, scales, zero, Levels(0, 255, Estimator.LSQ, 1.0))
            results.append([real, q, *torch.autograd.grad(real, leaves, x)])
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_what_is_fused() -> None:
    x = torch.zeros(4, 6)
    assert can_fuse(x, Estimator.LSQ)
    assert not can_fuse(x, Estimator.IDENTITY)
    assert not can_fuse(x.double(), Estimator.LSQ)
    assert not can_fuse(x.t(), Estimator.LSQ)
