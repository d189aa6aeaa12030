from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from xdsl.dialects.builtin import ModuleOp

from tests.networks import assert_kernels_exact, integer, quantized_networks, run
from uqfc.codegen.pack_weights import PackWeightsPass
from uqfc.codegen.select_kernels import SelectKernelsPass
from uqfc.dialects.nn import ConstantOp
from uqfc.dialects.qkernel import LaunchOp, UnpackOp, yielded
from uqfc.dialects.qnn import IntegerLayerOp
from uqfc.dialects.tensors import Array, element_of, i4, i8, i16, ui2, ui4
from uqfc.interpreter import MEANINGS
from uqfc.passes.form_kernels import FormKernelsPass

TARGETS = ("avx512-vnni", "x86-64-v3", "x86-64")


def layers(module: ModuleOp) -> list[tuple[LaunchOp, IntegerLayerOp]]:
    found = [(op, yielded(op.body).owner) for op in module.walk() if isinstance(op, LaunchOp)]
    return [(launch, op) for launch, op in found if isinstance(op, IntegerLayerOp)]


def plain(launch: LaunchOp, layer: IntegerLayerOp) -> list[Array]:
    """Weights and zero points before packing."""
    arrays: list[Array] = []
    for value in (layer.weight, layer.weight_zero_point):
        owner = launch.inputs[launch.block.args.index(value)].owner
        assert isinstance(owner, ConstantOp)
        arrays.append(owner.array)
    return arrays


@settings(max_examples=12)
@pytest.mark.parametrize("target", TARGETS)
@given(module=quantized_networks())
def test_unpacking_gives_the_weights_back(target: str, module: ModuleOp) -> None:
    selected = run(integer(module), FormKernelsPass(), SelectKernelsPass(target))
    packed = assert_kernels_exact(selected, PackWeightsPass(target))
    for (old, plain_layer), (new, layer) in zip(layers(selected), layers(packed), strict=True):
        unpack = layer.weight.owner
        assert isinstance(unpack, UnpackOp)
        assert element_of(layer.weight) in (i8, ui2, ui4, i16)
        assert element_of(layer.weight) != i4
        constant = new.inputs[-1].owner
        assert isinstance(constant, ConstantOp)
        unpacked = MEANINGS[UnpackOp](unpack, constant.array)
        for expected, actual in zip(plain(old, plain_layer), unpacked, strict=True):
            assert np.array_equal(expected, actual)
        assert (new.kernel_name, new.scratch_bytes) == (old.kernel_name, old.scratch_bytes)
        assert len(new.inputs) == len(old.inputs) - 1


@settings(max_examples=5)
@given(module=quantized_networks())
def test_packing_twice_changes_nothing(module: ModuleOp) -> None:
    passes = FormKernelsPass(), SelectKernelsPass("x86-64"), PackWeightsPass("x86-64")
    packed = run(integer(module), *passes)
    assert str(run(packed.clone(), PackWeightsPass("x86-64"))) == str(packed)
