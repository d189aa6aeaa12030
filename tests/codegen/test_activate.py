"""Activations in an epilogue: those of the definition, but for the sign of a zero."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.codegen.harness import host_isas
from uqfc import numerics
from uqfc.codegen import jit
from uqfc.codegen.builder import Builder, new_module
from uqfc.codegen.isa import Isa
from uqfc.codegen.kernels.activate import activate
from uqfc.numerics import Activation

ACTIVATIONS = [
    Activation("hard_swish"),
    Activation("hard_sigmoid", (1.0 / 6.0, 0.5)),
    Activation("hard_sigmoid", (-3.0, 0.5)),
    Activation("hard_sigmoid", (0.2, 0.25)),
    Activation("leaky_relu", (0.1,)),
]


def compiled(isa: Isa, activation: Activation) -> Any:
    module = new_module(isa, "test")
    b = Builder.function(module, isa, "f", x="ptr", y="noalias")
    b.pointer("y").store(activate(b, activation, b.pointer("x").load_f32(0)))
    b.ret()
    return jit.load(jit.compile_object(module, isa), ["f"]).function("f", "ptr", "ptr")


@pytest.fixture(scope="module", params=host_isas())
def functions(request: pytest.FixtureRequest) -> list[tuple[Activation, Any]]:
    return [(activation, compiled(request.param, activation)) for activation in ACTIVATIONS]


def interesting() -> st.SearchStrategy[float]:
    """Floats beside where a clip begins, and all others but NaN."""
    ends = st.tuples(st.sampled_from([3.0, 1.0 / 6.0, 2.5, 1.25, 3.75]), st.integers(-6, 6))
    near = ends.map(lambda e: float(np.float32(e[0]) + e[1] * np.spacing(np.float32(e[0]))))
    signed = near.flatmap(lambda v: st.sampled_from([v, -v])).map(lambda v: float(np.float32(v)))
    return signed | st.sampled_from([0.0, -0.0]) | st.floats(width=32, allow_nan=False)


@given(values=st.lists(interesting(), min_size=16, max_size=16))
def test_activations_are_those_of_the_definition(
    functions: list[tuple[Activation, Any]], values: list[float]
) -> None:
    x = np.array(values, np.float32)
    for activation, function in functions:
        y = np.empty_like(x)
        function(x.ctypes.data, y.ctypes.data)
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            expected = np.asarray(activation(numerics.NUMPY, x))
        defined = ~np.isnan(expected)
        np.testing.assert_array_equal(y[defined], expected[defined])
