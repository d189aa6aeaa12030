from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xdsl.dialects.builtin import ModuleOp

from tests.networks import STYLES, calibrated, networks, with_observers
from tests.passes.graphs import GraphBuilder, applied, context
from uqfc.dialects.quant import DcastOp, ObserveOp, QcastOp, uniform_of
from uqfc.dialects.tensors import Array
from uqfc.interpreter import Interpreter
from uqfc.passes.fold_calibration import FoldCalibrationPass, range_of, set_range

ENDS = st.floats(-1e6, 1e6)


def rounded(x: Array, low: float, high: float) -> tuple[Array, float]:
    """What a quantize point with this range makes of ``x``, and its scale."""
    b = GraphBuilder([x.shape])
    observe = ObserveOp(b.block.args[0], "q0")
    set_range(observe, low, high)
    assert range_of(observe) == (low, high)
    module = applied(b.module([b.add(observe)]), FoldCalibrationPass())
    (cast,) = [op for op in module.walk() if isinstance(op, QcastOp)]
    (y,) = Interpreter().run(module, {"input0": x}).values()
    return y, uniform_of(cast.result).scales[0]


@settings(max_examples=25)
@given(st.tuples(ENDS, ENDS), st.integers(0, 99))
def test_values_in_range_move_by_half_a_step_at_most(ends: tuple[float, float], seed: int) -> None:
    """``x / scale`` and the product each round once: 2**-23 of 255 steps in all, twice."""
    low, high = min(*ends, 0.0), max(*ends, 0.0)
    random = np.random.default_rng(seed)
    x = random.uniform(low, high, 64).astype(np.float32)
    y, scale = rounded(x, low, high)
    error = np.abs(y.astype(np.float64) - np.clip(x, low, high))
    # Rounding the zero point shifts the range by half a step: values at an end may move by one.
    inner = (x > low + scale / 2) & (x < high - scale / 2)
    assert (error[inner] <= scale * (0.5 + 2 * 255 / 2**23)).all()
    assert (error <= scale * (1 + 2 * 255 / 2**23)).all()


@settings(max_examples=25)
@given(st.tuples(ENDS, ENDS))
def test_zero_stays_zero(ends: tuple[float, float]) -> None:
    y, _ = rounded(np.zeros(1, np.float32), min(ends), max(ends))
    assert y[0] == 0


@settings(max_examples=25)
@given(networks(), st.lists(st.sampled_from(STYLES), min_size=1, max_size=3))
def test_every_point_becomes_casts_to_u8(module: ModuleOp, styles: list[str]) -> None:
    before = calibrated(module, styles)  # pyright: ignore[reportArgumentType] # drawn from STYLES
    after = applied(before, FoldCalibrationPass())
    points = [op for op in before.walk() if isinstance(op, ObserveOp)]
    casts = [op for op in after.walk() if isinstance(op, QcastOp)]
    assert not any(isinstance(op, ObserveOp) for op in after.walk())
    assert len(casts) == len(points)
    for point, cast in zip(points, casts, strict=True):
        params = uniform_of(cast.result)
        assert (params.storage, params.qmin, params.qmax) == ("u8", 0, 255)
        assert [type(use.operation) for use in cast.result.uses] == [DcastOp]
        same = [c for p, c in zip(points, casts, strict=True) if p.point == point.point]
        assert {uniform_of(c.result) for c in same} == {params}


@settings(max_examples=25)
@given(networks())
def test_a_point_without_a_range_is_an_error(module: ModuleOp) -> None:
    observed = with_observers(module)
    with pytest.raises(ValueError, match=r"'q\d+' was not calibrated"):
        FoldCalibrationPass().apply(context(), observed)
