"""Packing float lanes to bytes: the definition's clamp and rounding, for any finite value."""

from __future__ import annotations

from dataclasses import fields
from itertools import product
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
from uqfc.codegen.isa import ISAS, Isa
from uqfc.codegen.kernels.biased import BIAS, biased
from uqfc.codegen.kernels.saturating import Known, Saturation, packs

Floats = NDArray[np.float32]
KNOWN = [Known(), Known(bounded=True), Known(whole=True), Known(True, True, from_zero=True)]


def compiled(isa: Isa, vectors: int, known: Known) -> Any:
    """``f(values, out, low, high, zero_point)`` of 16 * vectors values."""
    module = new_module(isa, "test")
    b = Builder.function(
        module, isa, "f", x="ptr", y="noalias", low="f32", high="f32", zero_point="i32"
    )
    bounds = b.value("low"), b.value("high"), b.value("zero_point")
    saturation = Saturation(b, *bounds, known)
    values = [b.pointer("x").load_f32(64 * v) for v in range(vectors)]
    b.pointer("y").store(saturation.pack(values))
    b.ret()
    loaded = jit.load(jit.compile_object(module, isa), ["f"])
    return loaded.function("f", "ptr", "ptr", "f32", "f32", "i32")


@pytest.fixture(scope="module", params=host_isas())
def functions(request: pytest.FixtureRequest) -> dict[tuple[int, Known], Any]:
    return {kind: compiled(request.param, *kind) for kind in product((1, 2, 3, 4), KNOWN)}


def implies(known: Known, true: Known) -> bool:
    """Whether code that relies on ``known`` is right where ``true`` is all that holds."""
    return all(getattr(true, f.name) or not getattr(known, f.name) for f in fields(Known))


def interesting() -> st.SearchStrategy[float]:
    """Ties, values beyond int16 and int32, infinities, and anything else but NaN."""
    ties = st.integers(-600, 600).map(lambda i: i / 2)
    large = st.sampled_from([32767.5, -32768.5, 65536.0, 2.0**31, -(2.0**31), 3e38, -3e38])
    return ties | large | st.floats(width=32, allow_nan=False)


def limits() -> st.SearchStrategy[tuple[int, tuple[int, int]]]:
    """A zero point and the least and greatest byte; often such that something can be known."""
    bounds = st.tuples(st.integers(0, 255), st.integers(0, 255)).map(lambda p: (min(p), max(p)))
    return st.tuples(st.just(0) | st.integers(0, 255), st.just((0, 255)) | bounds)


@given(
    values=st.lists(interesting(), min_size=64, max_size=64),
    limits=limits(),
)
def test_pack_is_the_clamp_and_rounding_of_the_contract(
    functions: dict[tuple[int, Known], Any],
    values: list[float],
    limits: tuple[int, tuple[int, int]],
) -> None:
    x = np.array(values, np.float32)
    zero_point, bounds = limits
    low, high = bounds[0] - zero_point, bounds[1] - zero_point
    expected = zero_point + numerics.round_clamped(x, low, high)
    for (vectors, known), function in functions.items():
        true = Known(x[: 16 * vectors].max() < 2.0**31, bounds == (0, 255), zero_point == 0)
        if not implies(known, true):
            continue
        out = np.zeros(64, np.uint8)
        function(x.ctypes.data, out.ctypes.data, low, high, zero_point)
        np.testing.assert_array_equal(out[: 16 * vectors], expected[: 16 * vectors])
        assert not out[16 * vectors :].any()


PACKING = [name for name, isa in ISAS.items() if packs(isa)]


@pytest.mark.parametrize("isa", host_isas(*PACKING))
def test_bytes_are_packed_in_the_order_that_they_were_unpacked_from(isa: Isa) -> None:
    module = new_module(isa, "test")
    b = Builder.function(module, isa, "f", x="ptr", y="noalias")
    vectors = biased(b.pointer("x").load("i8", 0, 64))
    saturation = Saturation(b, b.f32(0.0), b.f32(255.0), b.i32(0))
    b.pointer("y").store(saturation.pack_in_lanes([v - BIAS for v in vectors]))
    b.ret()
    loaded = jit.load(jit.compile_object(module, isa), ["f"])
    function = loaded.function("f", "ptr", "ptr")
    for x in np.arange(256, dtype=np.uint8).reshape(4, 64):
        y = np.zeros_like(x)
        function(x.ctypes.data, y.ctypes.data)
        np.testing.assert_array_equal(y, x)
