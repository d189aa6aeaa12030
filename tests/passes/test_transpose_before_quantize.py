"""``transpose-before-quantize``: exact, and one kernel instead of two."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Block, Region

from uqfc.dialects import nn
from uqfc.dialects.qkernel import LaunchOp
from uqfc.dialects.qnn import QuantizeOp
from uqfc.dialects.tensors import tensor_type
from uqfc.interpreter import Interpreter
from uqfc.passes.form_kernels import FormKernelsPass
from uqfc.passes.transpose_before_quantize import TransposeBeforeQuantizePass


def network(shape: tuple[int, ...], permutation: tuple[int, ...], scale: float) -> ModuleOp:
    block = Block(arg_types=[tensor_type(shape)])
    quantize = QuantizeOp(block.args[0], scale, 7)
    transpose = nn.TransposeOp(quantize, permutation)
    block.add_ops([quantize, transpose, ReturnOp(transpose)])
    types = ([tensor_type(shape)], [transpose.result.type])
    return ModuleOp([FuncOp("main", types, Region(block))])


@given(
    shape=st.tuples(*[st.integers(1, 5)] * 4),
    permutation=st.permutations(range(4)),
    scale=st.floats(2**-10, 16, width=32),
    seed=st.integers(0, 2**32 - 1),
)
def test_exact_and_in_order(
    shape: tuple[int, ...], permutation: list[int], scale: float, seed: int
) -> None:
    module = network(shape, tuple(permutation), scale)
    x = np.random.default_rng(seed).standard_normal(shape).astype(np.float32) * 100
    before = Interpreter().run(module, {"input0": x})
    TransposeBeforeQuantizePass().apply(Context(), module)
    module.verify()
    after = Interpreter().run(module, {"input0": x})
    np.testing.assert_array_equal(before["output0"], after["output0"])
    names = [op.name for op in module.walk()]
    assert names.index("nn.transpose") < names.index("qnn.quantize")


@pytest.mark.parametrize("apply", [True, False])
def test_it_saves_a_kernel(apply: bool) -> None:
    module = network((1, 3, 8, 8), (0, 2, 3, 1), 0.5)
    if apply:
        TransposeBeforeQuantizePass().apply(Context(), module)
    FormKernelsPass().apply(Context(), module)
    launches = [op for op in module.walk() if isinstance(op, LaunchOp)]
    assert len(launches) == (1 if apply else 2)
