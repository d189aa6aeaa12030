from __future__ import annotations

import pytest
from hypothesis import given, settings
from xdsl.dialects.builtin import ModuleOp

from tests.networks import (
    NetworkBuilder,
    assert_kernels_exact,
    integer,
    named,
    quantized_networks,
    run,
)
from uqfc.codegen.select_kernels import SelectKernelsPass
from uqfc.dialects.qkernel import LaunchOp
from uqfc.dialects.quant import ObserveOp
from uqfc.errors import UnsupportedError
from uqfc.passes.form_kernels import FormKernelsPass

TARGETS = ("avx512-vnni", "x86-64-v3", "x86-64")


def launches(module: ModuleOp) -> list[LaunchOp]:
    return [op for op in module.walk() if isinstance(op, LaunchOp)]


@settings(max_examples=12)
@pytest.mark.parametrize("target", TARGETS)
@given(module=quantized_networks())
def test_only_kernel_and_scratch_are_set(target: str, module: ModuleOp) -> None:
    formed = run(integer(module), FormKernelsPass())
    selected = assert_kernels_exact(formed, SelectKernelsPass(target))
    again = assert_kernels_exact(formed, SelectKernelsPass(target))
    assert str(again) == str(selected)
    for launch in launches(selected):
        assert all(name.isidentifier() for name in launch.kernel_name.split("+"))
        del launch.properties["kernel"], launch.properties["scratch_bytes"]
    assert named(formed).is_structurally_equivalent(selected)


def test_everything_without_a_kernel_is_listed() -> None:
    b = NetworkBuilder([(1, 4)])
    x = b.add(ObserveOp(b.block.args[0], "a"), "first")
    module = run(b.module([b.add(ObserveOp(x, "b"), "second")]), FormKernelsPass())
    with pytest.raises(UnsupportedError, match="no kernel computes this op") as caught:
        run(module, SelectKernelsPass("x86-64"))
    assert [(n.name, n.op) for n in caught.value.nodes] == [
        ("first", "quant.observe"),
        ("second", "quant.observe"),
    ]
