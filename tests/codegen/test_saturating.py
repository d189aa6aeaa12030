"""Packing float lanes to bytes: the definition's clamp and rounding, for any finite value."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.codegen.harness import host_isas
from uqfc import numerics
from uqfc.codegen import jit
from uqfc.codegen.builder import Builder, new_module
from uqfc.codegen.isa import Isa
from uqfc.codegen.kernels.saturating import Saturation

Floats = NDArray[np.float32]


def compiled(isa: Isa, vectors: int, bounded: bool) -> Any:
    """``f(values, out, low, high, zero_point)`` of 16 * vectors values."""
    module = new_module(isa, "test")
    b = Builder.function(
        module, isa, "f", x="ptr", y="noalias", low="f32", high="f32", zero_point="i32"
    )
    bounds = b.value("low"), b.value("high"), b.value("zero_point")
    saturation = Saturation(b, *bounds, bounded)
    values = [b.pointer("x").load_f32(64 * v) for v in range(vectors)]
    b.pointer("y").store(saturation.pack(values))
    b.ret()
    loaded = jit.load(jit.compile_object(module, isa), ["f"])
    return loaded.function("f", "ptr", "ptr", "f32", "f32", "i32")


@pytest.fixture(scope="module", params=host_isas())
def functions(request: pytest.FixtureRequest) -> dict[tuple[int, bool], Any]:
    kinds = [(vectors, bounded) for vectors in (1, 2, 3, 4) for bounded in (False, True)]
    return {kind: compiled(request.param, *kind) for kind in kinds}


def interesting() -> st.SearchStrategy[float]:
    """Ties, values beyond int16 and int32, infinities, and anything else but NaN."""
    ties = st.integers(-600, 600).map(lambda i: i / 2)
    large = st.sampled_from([32767.5, -32768.5, 65536.0, 2.0**31, -(2.0**31), 3e38, -3e38])
    return ties | large | st.floats(width=32, allow_nan=False)


@given(
    values=st.lists(interesting(), min_size=64, max_size=64),
    zero_point=st.integers(0, 255),
    bounds=st.tuples(st.integers(0, 255), st.integers(0, 255)).map(sorted),
)
def test_pack_is_the_clamp_and_rounding_of_the_contract(
    functions: dict[tuple[int, bool], Any], values: list[float], zero_point: int, bounds: list[int]
) -> None:
    x = np.array(values, np.float32)
    low, high = bounds[0] - zero_point, bounds[1] - zero_point
    expected = zero_point + numerics.round_clamped(x, low, high)
    for (vectors, bounded), function in functions.items():
        if bounded and x[: 16 * vectors].max() >= 2.0**31:
            continue
        out = np.zeros(64, np.uint8)
        function(x.ctypes.data, out.ctypes.data, low, high, zero_point)
        np.testing.assert_array_equal(out[: 16 * vectors], expected[: 16 * vectors])
        assert not out[16 * vectors :].any()
