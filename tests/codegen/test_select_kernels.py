from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xdsl.dialects.builtin import ModuleOp, StringAttr

from tests.networks import (
    NetworkBuilder,
    assert_kernels_exact,
    integer,
    named,
    quantized_networks,
    run,
)
from uqfc.codegen.isa import isa_for
from uqfc.codegen.lowering import alternatives, choose
from uqfc.codegen.module import emit_module
from uqfc.codegen.pack_weights import PackWeightsPass
from uqfc.codegen.select_kernels import Problem, SelectKernelsPass, problem_of
from uqfc.dialects import nn
from uqfc.dialects.qkernel import LaunchOp
from uqfc.dialects.quant import ObserveOp
from uqfc.errors import UnsupportedError
from uqfc.interpreter import main_function
from uqfc.passes.form_kernels import FormKernelsPass
from uqfc.passes.plan_memory import PlanMemoryPass
from uqfc.targets import load_target

TARGETS = ("avx512-vnni", "x86-64-v3", "x86-64")
ISAS = {target: isa_for(load_target(target)) for target in TARGETS}


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
        assert (len(alternatives(launch, ISAS[target])) > 1) == ("chosen_by" in launch.properties)
        launch.properties.pop("chosen_by", None)
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


@settings(max_examples=12)
@pytest.mark.parametrize("target", TARGETS)
@given(module=quantized_networks(), data=st.data())
def test_what_was_measured_is_taken(target: str, module: ModuleOp, data: st.DataObject) -> None:
    """Whichever alternatives are selected: their names stay, and the network can be emitted."""
    formed = run(integer(module), FormKernelsPass())
    taken: list[str] = []

    def tune(kernels: ModuleOp) -> dict[Problem, str]:
        choices = [alternatives(launch, ISAS[target]) for launch in launches(kernels)]
        names = {problem_of(c): data.draw(st.sampled_from([a.name for a in c])) for c in choices}
        taken.extend(names[problem_of(c)] for c in choices)
        return names

    selected = assert_kernels_exact(formed, SelectKernelsPass(target, tune))
    assert [launch.kernel_name for launch in launches(selected)] == taken
    placed = run(selected.clone(), PackWeightsPass(target), PlanMemoryPass())
    for before, after in zip(launches(selected), launches(placed), strict=True):
        assert after.kernel_name == before.kernel_name == choose(after, ISAS[target]).name
        assert after.chosen_by == before.chosen_by
        if before.chosen_by is not None:
            assert before.chosen_by.data == "measured"
    emit_module(placed, len(main_function(module).body.block.args), ISAS[target])


def test_a_kernel_that_cannot_compute_the_launch_is_refused() -> None:
    b = NetworkBuilder([(1, 4)])
    module = run(b.module([b.add(nn.UnaryOp(b.block.args[0], nn.fn("relu")), "act")]))
    (launch,) = launches(run(module, FormKernelsPass(), SelectKernelsPass("x86-64")))
    launch.properties["kernel"] = StringAttr("another")
    with pytest.raises(ValueError, match="'another' was selected, but the kernels here are: "):
        choose(launch, ISAS["x86-64"])
