"""Networks of one image, run over batches by one call."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xdsl.dialects.builtin import ModuleOp

from tests.codegen.harness import GUARD, GUARD_VALUE, GuardedBuffer
from tests.networks import awkward_inputs, integer, quantized_networks
from tests.passes.graphs import same_bits
from uqfc.codegen.batch import BatchCode
from uqfc.codegen.isa import isa_for
from uqfc.codegen.jit import compile_objects
from uqfc.codegen.module import emit_module
from uqfc.dialects.qkernel import ALIGNMENT
from uqfc.dialects.tensors import Array, Shape, numpy_dtype, shape_of, type_of
from uqfc.interpreter import Interpreter, input_names, main_function
from uqfc.interpreter.engine import output_names
from uqfc.pipeline import kernel_passes, run_passes
from uqfc.targets import load_target
from uqfc_runtime.cpu import architecture

pytestmark = pytest.mark.skipif(architecture() != "x86_64", reason="no kernels for this machine")
TARGET = "x86-64"


class Batched:
    """An integer network's code, and its constants where kernels may read them."""

    def __init__(self, module: ModuleOp) -> None:
        function = main_function(module)
        block = function.body.block
        last = block.last_op
        assert last is not None
        self.inputs = [
            (shape_of(a), numpy_dtype(type_of(a).get_element_type())) for a in block.args
        ]
        self.outputs = [
            (shape_of(v), numpy_dtype(type_of(v).get_element_type())) for v in last.operands
        ]
        lowered = module.clone()
        run_passes(lowered, kernel_passes(TARGET))
        isa = isa_for(load_target(TARGET))
        made = emit_module(lowered, len(self.inputs), isa)
        objects = compile_objects(made.module, isa, None)
        self.code = BatchCode(
            objects, isa, sizes(self.inputs), sizes(self.outputs), made.arena_bytes
        )
        self.weights = np.zeros(len(made.weights) + 2 * ALIGNMENT, np.uint8)
        self.start = -self.weights.ctypes.data % ALIGNMENT
        constants = np.frombuffer(made.weights, np.uint8)
        self.weights[self.start : self.start + constants.size] = constants

    def __call__(self, inputs: list[Array], count: int, threads: int) -> list[Array]:
        """Outputs [count, …]; nothing around them is written, and nothing after inputs read."""
        guarded = [GuardedBuffer(x[:count], 0) for x in inputs]
        outs = [
            np.full(count * int(np.prod(shape)) * dtype.itemsize + 2 * GUARD, GUARD_VALUE, np.uint8)
            for shape, dtype in self.outputs
        ]
        addresses = [x.address for x in guarded]
        addresses += [out.ctypes.data + GUARD for out in outs]
        self.code.run(addresses, self.weights.ctypes.data + self.start, count, threads)
        for out in outs:
            assert (out[:GUARD] == GUARD_VALUE).all()
            assert (out[len(out) - GUARD :] == GUARD_VALUE).all()
        return [
            out[GUARD : len(out) - GUARD].view(dtype).reshape(count, *shape)
            for out, (shape, dtype) in zip(outs, self.outputs, strict=True)
        ]


def sizes(tensors: Sequence[tuple[Shape, np.dtype[Any]]]) -> list[int]:
    """In bytes."""
    return [int(np.prod(shape)) * dtype.itemsize for shape, dtype in tensors]


def samples(module: ModuleOp, count: int, seed: int) -> tuple[list[Array], list[Array]]:
    """Inputs [count, …] in order, and what the interpreter gives for them, one by one."""
    function = main_function(module)
    each = [awkward_inputs(module, seed + i) for i in range(max(count, 1))]
    found = [Interpreter().run(module, inputs) for inputs in each]
    inputs = [np.stack([e[name] for e in each]) for name in input_names(function)]
    return inputs, [np.stack([f[name] for f in found]) for name in output_names(function)]


@settings(max_examples=8)
@given(quantized_networks(), st.sampled_from([0, 1, 2, 5]), st.integers(1, 4), st.integers(0, 99))
def test_batches_are_runs_one_after_the_other(
    network: ModuleOp, count: int, threads: int, seed: int
) -> None:
    """Of several inputs and outputs, too."""
    module = integer(network)
    inputs, expected = samples(module, count, seed)
    found = Batched(module)(inputs, count, threads)
    for wanted, y in zip(expected, found, strict=True):
        assert same_bits(wanted[:count], y)


@settings(max_examples=3)
@given(quantized_networks())
def test_many_threads_may_call_at_once(network: ModuleOp) -> None:
    """Each has an arena of its own; ctypes releases the GIL."""
    module = integer(network)
    inputs, expected = samples(module, 4, 1)
    batched = Batched(module)
    with ThreadPoolExecutor(3) as pool:
        runs = [pool.submit(batched, inputs, 4, 1 + i % 3) for i in range(6)]
        for run in runs:
            for wanted, y in zip(expected, run.result(), strict=True):
                assert same_bits(wanted, y)
